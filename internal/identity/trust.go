package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// trust is by what peers are judged. It never changes once it is in force.
type trust struct {
	self    ID                  // this process; its trust domain is our own
	roots   []*x509.Certificate // of our own trust domain, beside what its bundle says
	domains map[string]*domain
	owner   map[mesh.ClusterName]string // the trust domain that a cluster belongs to, of those of others
	foreign []Domain
	own     own
}

// own is this process's certificate, as peers judge it that trust the same.
type own struct {
	chain   []*x509.Certificate
	root    *x509.Certificate // that it is under; nil: none that is known
	revoked *RevokedError     // no peer accepts it; nil: it is not revoked
}

// domain is what is trusted of one trust domain.
type domain struct {
	bundle  *Bundle                  // nil: none has come yet
	fresh   *x509.CertPool           // roots that a new connection may be under
	open    *x509.CertPool           // those of connections that are open
	pins    map[Fingerprint]struct{} // roots that a peer may send along
	signers map[Fingerprint]struct{} // whose bundles count
	last    Fingerprint              // of the root that certificates should be under; zero: not said
	revoked map[string]struct{}
	roots   []*x509.Certificate // of fresh
}

// newTrust puts together what is trusted: roots of our own trust domain, foreign ones,
// and the newest bundle of each.
func newTrust(self ID, roots []*x509.Certificate, foreign []Domain, bundles map[string]*Bundle) *trust {
	t := &trust{self: self, roots: roots, domains: make(map[string]*domain, 1+len(foreign)), owner: map[mesh.ClusterName]string{}, foreign: foreign}
	t.domains[self.TrustDomain] = newDomain(roots, nil, bundles[self.TrustDomain])
	for _, f := range foreign {
		t.domains[f.Name] = newDomain(f.Roots, f.Pins, bundles[f.Name])
		for _, c := range f.Clusters {
			t.owner[c] = f.Name
		}
	}
	return t
}

func newDomain(roots []*x509.Certificate, pins []Fingerprint, b *Bundle) *domain {
	d := &domain{
		bundle: b, fresh: x509.NewCertPool(), open: x509.NewCertPool(),
		pins: map[Fingerprint]struct{}{}, signers: map[Fingerprint]struct{}{}, revoked: map[string]struct{}{},
	}
	var retired []*x509.Certificate
	if b != nil {
		roots, retired = slices.Concat(roots, b.Roots), b.Retired
		d.last = FingerprintOf(b.Roots[len(b.Roots)-1])
		for _, r := range b.Revoked {
			d.revoked[r.What] = struct{}{}
		}
	}
	revoked := func(f Fingerprint) bool { _, yes := d.revoked[f.String()]; return yes }
	for _, c := range slices.Concat(roots, retired) {
		f := FingerprintOf(c)
		if revoked(f) {
			continue
		}
		d.open.AddCert(c)
		if !among(retired, f) {
			d.fresh.AddCert(c)
			d.roots = append(d.roots, c)
			d.signers[f] = struct{}{}
		}
	}
	for _, f := range pins {
		if !revoked(f) && !among(retired, f) {
			d.pins[f], d.signers[f] = struct{}{}, struct{}{}
		}
	}
	return d
}

// bundles returns those in force.
func (t *trust) bundles() map[string]*Bundle {
	all := make(map[string]*Bundle, len(t.domains))
	for td, d := range t.domains {
		if d.bundle != nil {
			all[td] = d.bundle
		}
	}
	return all
}

// under returns the trust with other roots of our own, and with the bundle that came with
// them.
func (t *trust) under(self ID, m Material) (*trust, error) {
	next := newTrust(self, m.Roots, t.foreign, t.bundles())
	if m.Bundle == nil {
		return next, nil
	}
	b, err := ParseBundle(m.Bundle)
	if err != nil {
		return nil, err
	}
	newer, err := next.accept(b)
	if newer == nil {
		return next, err
	}
	return newer, nil
}

// judgeOwn notes how a certificate of this process stands, and returns what others take it for:
// it must be good as a peer will judge it, but it may be revoked when the one before it was. Its
// cluster may have been let in again, which is not known here yet.
func (t *trust) judgeOwn(chain []*x509.Certificate, wasRevoked bool) (self Peer, err error) {
	t.own = own{chain: chain, root: t.domains[t.self.TrustDomain].rootOf(chain)}
	now := time.Now()
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		j := judgement{usage: usage, at: now}
		self, err = verify(chain, t, j)
		if revoked := (*RevokedError)(nil); wasRevoked && errors.As(err, &revoked) {
			revoked.Own, t.own.revoked, j.pardoned = true, revoked, revoked.What
			self, err = verify(chain, t, j)
		}
		if err != nil {
			return Peer{}, err
		}
	}
	return self, nil
}

// accept returns the trust with a bundle in force, if a root has signed it that is trusted
// here; nil: it is not newer than the one that is.
func (t *trust) accept(b *Bundle) (*trust, error) {
	d := t.domains[b.TrustDomain]
	if d == nil {
		return nil, fmt.Errorf("bundle %d of trust domain %s: it is not ours (%s) and not among trustDomains", b.Number, b.TrustDomain, t.self.TrustDomain)
	}
	if d.bundle != nil && b.compare(d.bundle) <= 0 {
		return nil, nil
	}
	if !b.signedBy(func(f Fingerprint) bool { _, ok := d.signers[f]; return ok }) {
		return nil, fmt.Errorf("bundle %d of trust domain %s: %w: put a root that signed it in roots.pem, if that is right", b.Number, b.TrustDomain, ErrUntrusted)
	}
	return t.with(b), nil
}

// with returns the trust with one more bundle in force.
func (t *trust) with(b *Bundle) *trust {
	all := t.bundles()
	all[b.TrustDomain] = b
	return newTrust(t.self, t.roots, t.foreign, all)
}

// of returns what is trusted of the trust domain that an identity names, unless that
// trust domain may not speak for its cluster.
func (t *trust) of(id ID) (*domain, error) {
	d := t.domains[id.TrustDomain]
	if d == nil {
		return nil, fmt.Errorf("%s is of trust domain %s, expected %s", id, id.TrustDomain, t.self.TrustDomain)
	}
	owner, taken := t.owner[id.Cluster]
	if !taken {
		owner = t.self.TrustDomain
	}
	if owner != id.TrustDomain {
		return nil, fmt.Errorf("%s: cluster %s is of trust domain %s here, and a cluster belongs to one: name it below trustDomains if that is wrong", id, id.Cluster, owner)
	}
	return d, nil
}

// rootOf returns the root that signed the last certificate of a chain, or is it; nil: none
// that is known.
func (d *domain) rootOf(chain []*x509.Certificate) *x509.Certificate {
	last := chain[len(chain)-1]
	for _, r := range d.roots {
		if last.Equal(r) || last.CheckSignatureFrom(r) == nil {
			return r
		}
	}
	return nil
}

// pool returns the roots that a chain may be under, with those that it brings along
// and that are pinned.
func (d *domain) pool(chain []*x509.Certificate, open bool) *x509.CertPool {
	pool := d.fresh
	if open {
		pool = d.open
	}
	if len(d.pins) == 0 {
		return pool
	}
	pool = pool.Clone()
	for _, c := range chain[1:] {
		if _, ok := d.pins[FingerprintOf(c)]; ok && c.IsCA {
			pool.AddCert(c)
		}
	}
	return pool
}

// RevokedError says that a certificate, its cluster or a key above it was revoked.
type RevokedError struct {
	ID     ID
	What   string // the entry of the revocation list
	Bundle uint64 // the number of the bundle that has it
	Own    bool   // ID is this process itself
}

func (e *RevokedError) Error() string {
	if e.Own {
		return fmt.Sprintf("this identity was revoked (bundle %d): %s is revoked, by the entry %s of the revocation list, and no peer accepts it: "+
			"give it a certificate with another key or name, or lift the entry with 'isthmus pki revoke --lift'", e.Bundle, e.ID, e.What)
	}
	return fmt.Sprintf("%s is revoked, by the entry %s of the revocation list: give it a certificate with another key or name, or lift the entry with 'isthmus pki revoke --lift'", e.ID, e.What)
}

// revokes returns a [RevokedError] when id is revoked that a verified chain proves: by
// its own trust domain, or by ours, which may do so with anybody. An entry that is pardoned
// does not count.
func (t *trust) revokes(chain []*x509.Certificate, id ID, pardoned string) error {
	for _, td := range []string{t.self.TrustDomain, id.TrustDomain} {
		d := t.domains[td]
		if d == nil || len(d.revoked) == 0 {
			continue
		}
		names := []string{id.String(), clusterURI(id.TrustDomain, id.Cluster)}
		for _, c := range chain {
			names = append(names, FingerprintOf(c).String())
		}
		for _, name := range names {
			if _, yes := d.revoked[name]; yes && name != pardoned {
				return &RevokedError{ID: id, What: name, Bundle: d.bundle.Number}
			}
		}
	}
	return nil
}

// related reports whether a bundle is about the trust domain that d's roots are of,
// and not about another one of the same name: they have a key in common.
func (d *domain) related(b *Bundle) bool {
	for _, s := range b.signers {
		if _, ok := d.signers[keyFingerprint(s.Key)]; ok {
			return true
		}
	}
	for f := range maps.Keys(d.signers) {
		if among(b.Roots, f) || among(b.Retired, f) {
			return true
		}
	}
	return false
}
