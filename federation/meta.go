package federation

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/isthmus-mesh/isthmus/federation/core"
)

// metaVersion is the first byte of NodeMeta. A gateway that says another one is
// a member of which only the name is known.
const metaVersion = 1

var errMetaVersion = errors.New("another version of NodeMeta")

// encodeMeta writes NodeMeta, drawn in doc.go.
func encodeMeta(m core.Meta) []byte {
	b := []byte{metaVersion, 0}
	b = binary.BigEndian.AppendUint64(b, m.Version.Epoch)
	b = binary.BigEndian.AppendUint64(b, m.Version.Seq)
	b = append(b, m.Digest[:]...)
	b = append(b, byte(len(m.Advertise)))
	return append(b, m.Advertise...)
}

// decodeMeta reads what encodeMeta wrote. Bytes after the known fields are ignored:
// they are for fields to come.
func decodeMeta(b []byte) (m core.Meta, err error) {
	if len(b) == 0 {
		return m, errors.New("empty NodeMeta")
	}
	if b[0] != metaVersion {
		return m, fmt.Errorf("%w: %d", errMetaVersion, b[0])
	}
	const fixed = 2 + 8 + 8 + len(m.Digest)
	if len(b) < fixed {
		return m, fmt.Errorf("NodeMeta of %d bytes: want at least %d", len(b), fixed)
	}
	m.Version.Epoch = binary.BigEndian.Uint64(b[2:])
	m.Version.Seq = binary.BigEndian.Uint64(b[10:])
	copy(m.Digest[:], b[18:])
	b = b[fixed:]
	if len(b) == 0 || int(b[0]) > maxAddress || len(b) < 1+int(b[0]) {
		return core.Meta{}, errors.New("NodeMeta ends within an address")
	}
	m.Advertise = string(b[1 : 1+int(b[0])])
	return m, nil
}
