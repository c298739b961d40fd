package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Bundle is all that members of a trust domain know of its trust beside their own
// roots.pem: which roots count, which count no more, and what is revoked. Its
// owners replace it as a whole by one with a higher number, signed with the key of
// a root of the one before. It never changes.
type Bundle struct {
	TrustDomain string    `json:"trust_domain"`
	Number      uint64    `json:"number"` // the highest is in force
	Made        time.Time `json:"made"`
	// Roots are trusted, oldest first: new certificates are to be under the last.
	Roots []*x509.Certificate `json:"-"`
	// Retired were trusted. Connections under them that are open stay so until
	// their certificates end; no new ones are made.
	Retired []*x509.Certificate `json:"-"`
	Revoked []Revocation        `json:"revoked,omitempty"`

	signed  []byte // as it was read or made: the form that travels
	signers []rootSignature
	payload []byte // what was signed
}

// Revocation takes an identity, a cluster or a key out of the mesh.
type Revocation struct {
	// What is the SPIFFE ID of a gateway or workload, that of a cluster
	// (spiffe://TRUST DOMAIN/cluster/NAME, with everything below it), or the
	// [Fingerprint] of a key, with everything that it signed if it is a CA's.
	What string    `json:"what"`
	At   time.Time `json:"at"` // when that was said
}

// The bounds of a bundle.
const (
	// MaxBundle bounds a signed bundle, in bytes.
	MaxBundle = 1 << 20
	// MaxRevoked bounds the entries of a revocation list: at some 100 bytes each they
	// fit a bundle together with its roots.
	MaxRevoked = 4096
	// maxRoots bounds the roots of a bundle, and those that are retired.
	maxRoots = 16
	// maxBundleNumber leaves room to count on, and is exact in any JSON reader.
	maxBundleNumber = 1 << 53
	// maxSigners bounds the signatures of a bundle: by every old root and a new one.
	maxSigners = 4
)

// bundleContext goes before the payload of a bundle when it is signed, within
// signContext: no signature of something else is one of a bundle.
const bundleContext = "trust bundle 1\x00"

// bundleJSON is the payload.
type bundleJSON struct {
	Bundle
	Roots   [][]byte `json:"roots"`
	Retired [][]byte `json:"retired,omitempty"`
}

// signedBundle is the form that travels and lies on disk.
type signedBundle struct {
	Payload    []byte          `json:"bundle"`
	Signatures []rootSignature `json:"signatures"`
}

// rootSignature is a root's signature of a bundle.
type rootSignature struct {
	Key []byte `json:"key"` // SubjectPublicKeyInfo, DER
	Sig []byte `json:"sig"`
}

// Sign completes a bundle with the signatures of roots: for members to take it, one of
// them must be trusted already. It returns the bundle as [ParseBundle] would.
func (b Bundle) Sign(roots ...*Authority) (*Bundle, error) {
	j := bundleJSON{Bundle: b}
	for _, c := range b.Roots {
		j.Roots = append(j.Roots, c.Raw)
	}
	for _, c := range b.Retired {
		j.Retired = append(j.Retired, c.Raw)
	}
	payload, err := json.Marshal(j)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	s := signedBundle{Payload: payload}
	for _, r := range roots {
		if r.cluster != "" {
			return nil, fmt.Errorf("bundle: the authority of cluster %s cannot sign it: only a root can", r.cluster)
		}
		digest, opts := prepare(r.key.Public(), append([]byte(bundleContext), payload...))
		sig, err := r.key.Sign(rand.Reader, digest, opts)
		if err != nil {
			return nil, fmt.Errorf("sign bundle: %w", err)
		}
		s.Signatures = append(s.Signatures, rootSignature{r.cert.RawSubjectPublicKeyInfo, sig})
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return ParseBundle(raw)
}

// String says which bundle it is, and how much it says.
func (b *Bundle) String() string {
	return fmt.Sprintf("bundle %d of trust domain %s: roots %d, retired %d, revoked %d", b.Number, b.TrustDomain, len(b.Roots), len(b.Retired), len(b.Revoked))
}

// Digest tells bundles of one number apart.
func (b *Bundle) Digest() []byte {
	sum := sha256.Sum256(b.payload)
	return sum[:8]
}

// Bytes returns the signed bundle as it travels. It must not be changed.
func (b *Bundle) Bytes() []byte { return b.signed }

// ParseBundle reads a signed bundle, from anybody. It checks form and bounds, and not
// who signed: that takes a [Source].
func ParseBundle(raw []byte) (*Bundle, error) {
	if len(raw) > MaxBundle {
		return nil, fmt.Errorf("bundle of %d bytes: at most %d", len(raw), MaxBundle)
	}
	var s signedBundle
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if n := len(s.Signatures); n == 0 || n > maxSigners {
		return nil, fmt.Errorf("bundle: %d signatures, expected 1 to %d", n, maxSigners)
	}
	for _, sig := range s.Signatures {
		if len(sig.Key) > maxCertificate || len(sig.Sig) > maxSignature {
			return nil, errors.New("bundle: a signature is too long")
		}
	}
	var j bundleJSON
	if err := json.Unmarshal(s.Payload, &j); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	b := &j.Bundle
	b.signed, b.signers, b.payload = bytes.Clone(raw), s.Signatures, s.Payload
	var err error
	if b.Roots, err = parseRoots(b.TrustDomain, j.Roots); err != nil {
		return nil, fmt.Errorf("bundle: roots: %w", err)
	}
	if b.Retired, err = parseRoots(b.TrustDomain, j.Retired); err != nil {
		return nil, fmt.Errorf("bundle: retired roots: %w", err)
	}
	return b, b.check()
}

// check returns an error unless the bundle's content makes sense.
func (b *Bundle) check() error {
	td, err := spiffeid.TrustDomainFromString(b.TrustDomain)
	switch {
	case err != nil || td.Name() != b.TrustDomain:
		return fmt.Errorf("bundle: trust domain %q", b.TrustDomain)
	case b.Number == 0 || b.Number > maxBundleNumber:
		return fmt.Errorf("bundle: number %d", b.Number)
	case len(b.Roots) == 0:
		return errors.New("bundle: no root: nobody could be trusted")
	case len(b.Revoked) > MaxRevoked:
		return fmt.Errorf("bundle: %d revocations, at most %d: take out those whose certificates have ended", len(b.Revoked), MaxRevoked)
	}
	for _, r := range b.Revoked {
		if err := r.check(); err != nil {
			return fmt.Errorf("bundle: %w", err)
		}
	}
	return nil
}

func (r Revocation) check() error {
	if _, err := ParseFingerprint(r.What); err == nil {
		return nil
	}
	if _, err := ParseID(r.What); err == nil {
		return nil
	}
	if a, err := parseAuthority(r.What); err == nil && a.cluster != "" && a.namespaces == nil {
		return nil
	}
	return fmt.Errorf("revocation of %q: name a SPIFFE ID, a cluster's SPIFFE ID, or a fingerprint sha256:HEX", r.What)
}

func parseRoots(td string, ders [][]byte) ([]*x509.Certificate, error) {
	if len(ders) > maxRoots {
		return nil, fmt.Errorf("%d of them, at most %d", len(ders), maxRoots)
	}
	var roots []*x509.Certificate
	for i, der := range ders {
		if len(der) > maxCertificate {
			return nil, fmt.Errorf("certificate of %d bytes is longer than %d", len(der), maxCertificate)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i+1, err)
		}
		if !c.IsCA {
			return nil, fmt.Errorf("certificate %s is not that of a CA", subject(c))
		}
		for _, u := range c.URIs {
			if a, err := parseAuthority(u.String()); err != nil || a.trustDomain != td {
				return nil, fmt.Errorf("certificate %s is not a root of trust domain %s", subject(c), td)
			}
		}
		roots = append(roots, c)
	}
	return roots, nil
}

// signedBy reports whether one of the keys for which trusted holds has signed.
func (b *Bundle) signedBy(trusted func(Fingerprint) bool) bool {
	for _, s := range b.signers {
		if !trusted(keyFingerprint(s.Key)) {
			continue // and nothing that others chose is parsed
		}
		key, err := x509.ParsePKIXPublicKey(s.Key)
		if err == nil && valid(key, append([]byte(bundleContext), b.payload...), s.Sig) {
			return true
		}
	}
	return false
}

// compare orders bundles of one trust domain: what is in force is the greatest. Two
// under one number are a mistake, about which all shall agree.
func (b *Bundle) compare(o *Bundle) int {
	switch {
	case b.Number != o.Number:
		return int(int64(b.Number) - int64(o.Number)) // both are below 2^53
	}
	return bytes.Compare(b.payload, o.payload)
}

// Has reports whether a root is among the bundle's.
func (b *Bundle) Has(root Fingerprint) bool { return among(b.Roots, root) }

func among(certs []*x509.Certificate, f Fingerprint) bool {
	return slices.ContainsFunc(certs, func(c *x509.Certificate) bool { return FingerprintOf(c) == f })
}
