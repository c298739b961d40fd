package identity

import (
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Founding tells clusters of one name under one root from each other: it is when
// the cluster's first intermediate began, and that one's key. An intermediate that
// replaces another one says what the founding was; one that says nothing is the first
// of its cluster. The zero Founding is not known: the root itself signed.
type Founding struct {
	At  int64  `json:"at"`  // Unix seconds
	Key string `json:"key"` // subject key identifier, in hex
}

// IsZero reports whether the founding is not known.
func (f Founding) IsZero() bool { return f == Founding{} }

// Compare orders foundings: the earlier one first.
func (f Founding) Compare(o Founding) int {
	return cmp.Or(cmp.Compare(f.At, o.At), cmp.Compare(f.Key, o.Key))
}

// String returns the founding for people, such as "2026-11-23T10:00:00Z (key 0a1b2c3d)".
func (f Founding) String() string {
	return fmt.Sprintf("%s (key %.8s)", stamp(time.Unix(f.At, 0)), f.Key)
}

// foundingPrefix begins the serial number in the subject of an intermediate that is
// not its cluster's first: "founded SECONDS KEY".
const foundingPrefix = "founded "

// maxKeyID bounds the key of a founding, in bytes of hex.
const maxKeyID = 128

// foundingOf returns the founding of the cluster that an intermediate is of.
func foundingOf(ca *x509.Certificate) Founding {
	if rest, ok := strings.CutPrefix(ca.Subject.SerialNumber, foundingPrefix); ok {
		at, key, _ := strings.Cut(rest, " ")
		if seconds, err := strconv.ParseInt(at, 10, 64); err == nil && key != "" && len(key) <= maxKeyID {
			return Founding{seconds, key}
		}
	}
	key := hex.EncodeToString(ca.SubjectKeyId)
	return Founding{ca.NotBefore.Unix(), key[:min(len(key), maxKeyID)]}
}
