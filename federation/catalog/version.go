package catalog

import (
	"cmp"
	"encoding/hex"
	"fmt"
)

// Version orders the states of one origin: by epoch, a number that grows with
// every start of the process, then by sequence number, which grows with every
// change. The zero Version is before everything. Seq 0 of an epoch says that
// the origin runs but has not yet said what it offers.
type Version struct {
	Epoch uint64 `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// Compare returns -1, 0 or 1 as v is older than, the same as or newer than o.
func (v Version) Compare(o Version) int {
	return cmp.Or(cmp.Compare(v.Epoch, o.Epoch), cmp.Compare(v.Seq, o.Seq))
}

// String returns "epoch.seq".
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Epoch, v.Seq) }

// Digest is the SHA-256 of a whole state: two states of one origin with the
// same version and digest hold the same records.
type Digest [32]byte

// String returns the first 6 bytes in hex, enough to compare by eye.
func (d Digest) String() string { return hex.EncodeToString(d[:6]) }

// MarshalText returns all of d in hex.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText reads the form that MarshalText writes.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) != 2*len(d) {
		return fmt.Errorf("digest of %d characters: want %d", len(b), 2*len(d))
	}
	_, err := hex.Decode(d[:], b)
	return err
}
