package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
)

// Fingerprint names a key, and with it every certificate of that key: the SHA-256
// of its public half in DER (SubjectPublicKeyInfo), as in the pins of RFC 7469.
type Fingerprint [sha256.Size]byte

const fingerprintPrefix = "sha256:"

// FingerprintOf returns the fingerprint of a certificate's key.
func FingerprintOf(c *x509.Certificate) Fingerprint {
	return keyFingerprint(c.RawSubjectPublicKeyInfo)
}

// String returns the form that [ParseFingerprint] reads: sha256:HEX.
func (f Fingerprint) String() string { return fingerprintPrefix + hex.EncodeToString(f[:]) }

// MarshalText implements [encoding.TextMarshaler].
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (f *Fingerprint) UnmarshalText(b []byte) (err error) {
	*f, err = ParseFingerprint(string(b))
	return err
}

// ParseFingerprint reads sha256:HEX, where the prefix and colons between the bytes
// may be left out.
func ParseFingerprint(s string) (f Fingerprint, err error) {
	digits := strings.ReplaceAll(strings.TrimPrefix(s, fingerprintPrefix), ":", "")
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != len(f) {
		return f, fmt.Errorf("fingerprint %q: write sha256: and 64 hexadecimal digits, as 'isthmus pki fingerprint FILE' prints", s)
	}
	copy(f[:], b)
	return f, nil
}

// ReadFingerprints returns the fingerprints of the certificates in a PEM file, in its order.
func ReadFingerprints(path string) ([]Fingerprint, error) {
	certs, err := readPEM(readBounded, path, parseCertificates)
	if err != nil {
		return nil, err
	}
	all := make([]Fingerprint, 0, len(certs))
	for _, c := range certs {
		all = append(all, FingerprintOf(c))
	}
	return all, nil
}

func keyFingerprint(spki []byte) Fingerprint { return sha256.Sum256(spki) }
