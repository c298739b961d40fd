package identity

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// tokenPrefix begins every token, so that it is known as one wherever it turns up, and
// is part of what is signed.
const tokenPrefix = "isthmus-token-1."

const (
	// DefaultTokenTTL is how long a token may be used.
	DefaultTokenTTL = 15 * time.Minute
	// MaxTokenTTL bounds it: a token that lies about is an identity that lies about.
	MaxTokenTTL = 24 * time.Hour

	// maxToken bounds a token, in bytes: eight roots, and the signature of the largest RSA key.
	maxToken = 4 << 10
	// maxTokenRoots bounds the fingerprints in a token.
	maxTokenRoots = 8
)

// Token lets a process that has nothing yet become ID, once: it is what its cluster's CA
// takes instead of a certificate, and how the process knows that CA. It is text:
//
//	isthmus-token-1.<base64url of the JSON below>.<base64url of its signature>
//
// The signature is of everything before the last dot, by the key of the cluster's
// intermediate. Whoever has the text can use it.
type Token struct {
	ID      ID        // whom it makes
	CA      string    // the process that takes it; its fellows have their own memory of what was used
	Serial  string    // its own, random
	Issued  time.Time // to the second
	Expires time.Time // to the second
	// Roots are the fingerprints of the roots to trust, see [FingerprintOf].
	Roots []Fingerprint
}

// tokenJSON is a [Token] as it is written.
type tokenJSON struct {
	ID      string        `json:"id"`
	CA      string        `json:"ca"`
	Serial  string        `json:"serial"`
	Issued  int64         `json:"issued"` // Unix seconds
	Expires int64         `json:"expires"`
	Roots   []Fingerprint `json:"roots"`
}

// NewToken makes a token for a workload or gateway of the authority's cluster, which the
// CA process of that name takes.
func (a *Authority) NewToken(id ID, ca string, ttl time.Duration) (string, Token, error) {
	fail := func(format string, args ...any) (string, Token, error) {
		return "", Token{}, fmt.Errorf(format, args...)
	}
	if a.cluster == "" {
		return fail("the root makes no tokens: the authority of a cluster does")
	}
	if err := mesh.CheckLabel(ca); err != nil {
		return fail("token: the CA's name: %w", err)
	}
	if ttl < time.Second || ttl > MaxTokenTTL {
		return fail("token: %s is out of range: write 1s to %s", ttl, MaxTokenTTL)
	}
	id.TrustDomain, id.Cluster = a.trustDomain, a.cluster
	if err := id.check(); err != nil {
		return fail("token: %w", err)
	}
	serial := make([]byte, 16)
	if _, err := rand.Read(serial); err != nil {
		return fail("token: %w", err)
	}
	now := time.Now().Truncate(time.Second)
	t := Token{ID: id, CA: ca, Serial: hex.EncodeToString(serial), Issued: now, Expires: now.Add(ttl)}
	for _, r := range a.roots {
		t.Roots = append(t.Roots, FingerprintOf(r))
	}
	body, err := json.Marshal(tokenJSON{id.String(), ca, t.Serial, t.Issued.Unix(), t.Expires.Unix(), t.Roots})
	if err != nil {
		return fail("token: %w", err)
	}
	signed := tokenPrefix + base64.RawURLEncoding.EncodeToString(body)
	digest, opts := prepare(a.key.Public(), []byte(signed))
	if opts == nil {
		return fail("token: key type %T is not supported, use ECDSA P-256", a.key.Public())
	}
	sig, err := a.key.Sign(rand.Reader, digest, opts)
	if err != nil {
		return fail("token: %w", err)
	}
	text := signed + "." + base64.RawURLEncoding.EncodeToString(sig)
	_, err = ReadToken(text) // what could not be used is not handed out
	return text, t, err
}

// ReadToken reads a token as its bearer does, who cannot know whether it is genuine: the
// CA does, with [Authority.VerifyToken]. The text may come from anybody.
func ReadToken(text string) (Token, error) {
	t, _, _, err := splitToken(text)
	return t, err
}

// VerifyToken reads a token that somebody shows and returns why it cannot be used at time
// now, as far as the token says. Whether it was used is for the caller to know.
func (a *Authority) VerifyToken(text string, now time.Time) (Token, error) {
	t, signed, sig, err := splitToken(text)
	switch {
	case err != nil:
		return Token{}, err
	case !valid(a.key.Public(), []byte(signed), sig):
		return Token{}, errors.New("token: it was not made with the key of this CA: make one where this CA's key is, with 'isthmus pki token'")
	case t.ID.TrustDomain != a.trustDomain || t.ID.Cluster != a.cluster:
		return Token{}, fmt.Errorf("token: it is for %s, which is not of cluster %s", t.ID, a.cluster)
	case now.Before(t.Issued.Add(-backdate)):
		return Token{}, fmt.Errorf("token: it was made at %s, it is %s here: check the clock", stamp(t.Issued), minute(now))
	case !now.Before(t.Expires):
		return Token{}, fmt.Errorf("token: it ended at %s, it is %s here: make another with 'isthmus pki token', or check the clock", stamp(t.Expires), minute(now))
	}
	return t, nil
}

// minute is now for a reason that is given again at every attempt: what is the same is
// logged once.
func minute(now time.Time) string { return stamp(now.Truncate(time.Minute)) }

// IsToken reports whether a text begins like a token of 'isthmus pki token'.
func IsToken(text string) bool { return strings.HasPrefix(strings.TrimSpace(text), tokenPrefix) }

// splitToken reads the parts of a token; signed is what sig is of.
func splitToken(text string) (t Token, signed string, sig []byte, err error) {
	fail := func(format string, args ...any) (Token, string, []byte, error) {
		return Token{}, "", nil, fmt.Errorf("token: "+format, args...)
	}
	text = strings.TrimSpace(text)
	if len(text) > maxToken {
		return fail("%d bytes are more than %d", len(text), maxToken)
	}
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	payload, encoded, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 {
		return fail("it does not read %sPAYLOAD.SIGNATURE: make one with 'isthmus pki token'", tokenPrefix)
	}
	body, err := base64.RawURLEncoding.Strict().DecodeString(payload)
	if err != nil {
		return fail("payload: %w", err)
	}
	if sig, err = base64.RawURLEncoding.Strict().DecodeString(encoded); err != nil {
		return fail("signature: %w", err)
	}
	var j tokenJSON
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return fail("payload: %w", err)
	}
	id, err := ParseID(j.ID)
	if err != nil {
		return fail("%w", err)
	}
	if id.IsCA() {
		return fail("it is for the CA %s: a CA makes its own certificate", id)
	}
	if err := mesh.CheckLabel(j.CA); err != nil {
		return fail("the CA's name: %w", err)
	}
	if raw, err := hex.DecodeString(j.Serial); err != nil || len(raw) != 16 {
		return fail("serial %q: must be 16 bytes in hex", j.Serial)
	}
	t = Token{ID: id, CA: j.CA, Serial: j.Serial, Issued: time.Unix(j.Issued, 0), Expires: time.Unix(j.Expires, 0), Roots: j.Roots}
	if life := t.Expires.Sub(t.Issued); life <= 0 || life > MaxTokenTTL {
		return fail("it would last %s: at most %s is taken", life, MaxTokenTTL)
	}
	if len(t.Roots) == 0 || len(t.Roots) > maxTokenRoots {
		return fail("%d roots: must be 1 to %d", len(t.Roots), maxTokenRoots)
	}
	return t, tokenPrefix + payload, sig, nil
}

// FirstTrust returns what a process trusts that has a token and no certificate.
func (t Token) FirstTrust() FirstTrust {
	return FirstTrust{TrustDomain: t.ID.TrustDomain, Cluster: t.ID.Cluster, Roots: t.Roots}
}
