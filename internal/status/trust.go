package status

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Trust is what a process trusts of one trust domain.
type Trust struct {
	Domain  string       `json:"trust_domain"`
	Own     bool         `json:"own"`    // the process belongs to it
	Bundle  uint64       `json:"bundle"` // number of the bundle in force; 0: none yet
	Made    time.Time    `json:"made,omitzero"`
	Roots   []Root       `json:"roots,omitempty"`
	Revoked []Revocation `json:"revoked,omitempty"`
	// Lacking are the gateways and sidecars of the mesh that do not hold this bundle, or
	// are not under its last root, as far as a gateway knows.
	Lacking []Lacking `json:"lacking,omitempty"`
	// Sidecars is how many have said what they hold, to any gateway.
	Sidecars int `json:"sidecars"`
}

// TrustOf returns what a process trusts. Lacking is the caller's.
func TrustOf(s *identity.Source) []Trust {
	byName := map[string]*identity.Bundle{}
	for _, b := range s.Trust().Bundles() {
		byName[b.TrustDomain] = b
	}
	all := []Trust{}
	for td := range s.Trust().Held() {
		t := Trust{Domain: td, Own: td == s.ID().TrustDomain}
		b := byName[td]
		var roots []*x509.Certificate
		switch {
		case t.Own: // those of roots.pem count, too
			roots = s.Trust().Roots()
		case b != nil:
			roots = b.Roots
		}
		for _, c := range roots {
			r := Root{Fingerprint: identity.FingerprintOf(c).String(), NotAfter: c.NotAfter}
			if !slices.Contains(t.Roots, r) { // one may be in a file and in the bundle
				t.Roots = append(t.Roots, r)
			}
		}
		if b != nil {
			t.Bundle, t.Made = b.Number, b.Made
			for _, c := range b.Retired {
				t.Roots = append(t.Roots, Root{Fingerprint: identity.FingerprintOf(c).String(), NotAfter: c.NotAfter, Retired: true})
			}
			for _, r := range b.Revoked {
				t.Revoked = append(t.Revoked, Revocation(r))
			}
		}
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b Trust) int { return strings.Compare(a.Domain, b.Domain) })
	return all
}

// Root is a root that is trusted, or was.
type Root struct {
	Fingerprint string    `json:"fingerprint"` // of its key: sha256:HEX
	NotAfter    time.Time `json:"not_after"`
	Retired     bool      `json:"retired,omitempty"` // good for open connections only
}

// Revocation is an entry of the revocation list.
type Revocation struct {
	What string    `json:"what"` // SPIFFE ID of a gateway, workload or cluster, or fingerprint of a key
	At   time.Time `json:"at"`
}

// Lacking is a process that is behind.
type Lacking struct {
	Gateway mesh.GatewayID `json:"gateway"`           // which, or which one says so of its sidecar
	Sidecar string         `json:"sidecar,omitempty"` // SPIFFE ID; empty: it is the gateway itself
	Bundle  bool           `json:"bundle,omitempty"`  // it has not this bundle
	Has     uint64         `json:"has,omitempty"`     // but that one; 0: none
	// Root: its certificate is under this root, which is not the last of the bundle.
	Root string `json:"root,omitempty"`
	// Why, where that is known: it refused the bundle, or nobody can say what it holds.
	Why string `json:"why,omitempty"`
}

// Who names it.
func (l Lacking) Who() string {
	if l.Sidecar != "" {
		role := "sidecar "
		if id, err := identity.ParseID(l.Sidecar); err == nil && id.IsCA() {
			role = "CA " // it follows its gateways as sidecars do
		}
		return role + l.Sidecar
	}
	return "gateway " + l.Gateway.String()
}

// String says what it lacks.
func (l Lacking) String() string {
	switch {
	case l.Bundle && l.Why != "":
		return fmt.Sprintf("%s: %s", l.Who(), l.Why)
	case l.Bundle:
		return fmt.Sprintf("%s still has bundle %d", l.Who(), l.Has)
	}
	return fmt.Sprintf("%s has a certificate under root %.19s…", l.Who(), l.Root)
}

// LackBundle returns those that do not hold the bundle.
func (t *Trust) LackBundle() (some []Lacking) {
	for _, l := range t.Lacking {
		if l.Bundle {
			some = append(some, l)
		}
	}
	return some
}

// spreading is how long a bundle may take to be everywhere.
const spreading = 5 * time.Second

// problem says who does not hold a bundle that has had the time to be everywhere; "": nobody.
func (t *Trust) problem(now time.Time) string {
	lack := t.LackBundle()
	if len(lack) == 0 || now.Sub(t.Made) < spreading {
		return ""
	}
	return fmt.Sprintf("bundle %d of trust domain %s is not everywhere: %s", t.Bundle, t.Domain, someOf(lack, Lacking.String))
}

// TrustVerdict is what a process answers to being given a bundle.
type TrustVerdict struct {
	Answered bool   `json:"answered"`        // always
	Changed  bool   `json:"changed"`         // it is in force, and was not
	Error    string `json:"error,omitempty"` // why it is not taken
}

// GiveBundle gives a signed bundle to the process whose admin port is at host:port, which
// hands it on.
func GiveBundle(ctx context.Context, admin string, signed []byte) (*TrustVerdict, error) {
	b, answered, err := request(ctx, http.MethodPost, admin, "/trust", bytes.NewReader(signed), askTimeout)
	if err != nil {
		return nil, err
	}
	v := &TrustVerdict{}
	if err := json.Unmarshal(b, v); err != nil || !v.Answered {
		return nil, fmt.Errorf("%s answers %s and no verdict: is it a gateway?", admin, answered)
	}
	return v, nil
}
