package caclient

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// maxToken bounds the token file, in bytes: as much as a CA reads of a call's headers.
const maxToken = 16 << 10

// proof is what a process shows to the CA instead of a certificate: a one-time token of
// 'isthmus pki token', or the token of a service account, which the kubelet writes into
// its pod and replaces before it ends.
type proof struct {
	text  string
	ends  time.Time
	first identity.FirstTrust
	// id is whom it makes. Of a service account's token its trust domain and cluster are
	// empty, and it is the account: a gateway's name is the CA's to say.
	id        identity.ID
	ofKubelet bool
}

// makes says why an identity is not what the proof makes; nil: it is.
func (p proof) makes(id identity.ID) error {
	switch {
	case !p.ofKubelet:
		if id != p.id {
			return fmt.Errorf("for %s, asked was for %s", id, p.id)
		}
	case id.Cluster != p.first.Cluster:
		return fmt.Errorf("for %s, which is not of cluster %s", id, p.first.Cluster)
	case id.IsWorkload() && (id.Namespace != p.id.Namespace || id.ServiceAccount != p.id.ServiceAccount):
		return fmt.Errorf("for %s, the token is of service account %s/%s", id, p.id.Namespace, p.id.ServiceAccount)
	}
	return nil
}

// proof reads the token file, which is read at each use: the kubelet writes it anew.
func (c *Client) proof() (proof, error) {
	b, err := os.ReadFile(c.cfg.TokenFile)
	if err != nil {
		return proof{}, fmt.Errorf("token: %w: %s", err, c.another())
	}
	p, err := c.readProof(strings.TrimSpace(string(b)))
	if err != nil {
		return proof{}, fmt.Errorf("%s: %w; %s", c.cfg.TokenFile, err, c.another())
	}
	return p, nil
}

func (c *Client) readProof(text string) (proof, error) {
	if c.cfg.First == nil {
		t, err := identity.ReadToken(text)
		if err == nil {
			err = c.cfg.Accept(t.ID)
		}
		if err != nil && isJWT(text) {
			err = errors.New("it is a service account's token: write identity.fingerprint (or identity.roots) and identity.cluster as well, by which the CA is known")
		}
		return proof{text: text, ends: t.Expires, first: t.FirstTrust(), id: t.ID}, err
	}
	if identity.IsToken(text) {
		return proof{}, errors.New("it is a token of 'isthmus pki token', and identity.fingerprint and identity.roots are for those of service accounts: remove them")
	}
	first, err := c.cfg.First()
	if err != nil {
		return proof{}, err
	}
	account, ends, err := readServiceAccountToken(text)
	return proof{text: text, ends: ends, first: first, id: account, ofKubelet: true}, err
}

// another says how another token comes.
func (c *Client) another() string {
	if c.cfg.First != nil {
		return "the kubelet writes it, from the pod's projected volume (serviceAccountToken)"
	}
	return "make one with '" + c.cfg.Command + "'"
}

func isJWT(text string) bool { return strings.HasPrefix(text, "eyJ") && strings.Count(text, ".") == 2 }

// readServiceAccountToken reads whose a service account's token is and when it ends, as its
// bearer does, who cannot know whether it is genuine: the API server does.
func readServiceAccountToken(text string) (account identity.ID, ends time.Time, err error) {
	fail := func(format string, args ...any) (identity.ID, time.Time, error) {
		return identity.ID{}, time.Time{}, fmt.Errorf("token: "+format, args...)
	}
	if len(text) > maxToken {
		return fail("%d bytes are more than %d", len(text), maxToken)
	}
	if !isJWT(text) {
		return fail("it is no service account's token (a JSON web token, RFC 7519)")
	}
	claims, err := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[1])
	if err != nil {
		return fail("%w", err)
	}
	var c struct {
		Subject string  `json:"sub"`
		Expires float64 `json:"exp"` // Unix seconds; a number of any form (RFC 7519, section 2)
	}
	if err := json.Unmarshal(claims, &c); err != nil {
		return fail("%w", err)
	}
	if account, err = identity.ParseServiceAccountUser(c.Subject); err != nil {
		return fail("%w", err)
	}
	return account, time.Unix(int64(c.Expires), 0), nil
}
