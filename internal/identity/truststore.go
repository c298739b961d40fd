package identity

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// TrustStore is what this process trusts: the roots of its own trust domain, other trust
// domains, and the bundles in force of all. By that it judges peers, signatures, and the
// certificate of this process. Its methods may be called concurrently.
type TrustStore struct {
	log      *slog.Logger
	now      state.Store[*trust]
	changing sync.Mutex   // held by who changes it
	saver    *state.Saver // of the bundles in force; guarded by changing; nil: they are not kept
}

// ErrUntrusted is wrapped by what [TrustStore.Accept] says of a bundle that nobody has
// signed who is trusted here.
var ErrUntrusted = errors.New("signed by no root that this process trusts")

// Accept takes a signed bundle, from anybody: it is in force from now on when it is newer
// than the one of its trust domain that is, and signed by a root that is trusted now.
// An older one, and the same one again, is no error. What is in force is on disk when
// Accept returns, see [TrustStore.KeepBundles].
func (s *TrustStore) Accept(raw []byte) (changed bool, err error) {
	b, err := ParseBundle(raw)
	if err != nil {
		return false, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	old := s.now.Load()
	next, err := old.accept(b)
	if next == nil || err != nil {
		return false, err
	}
	if was := old.domains[b.TrustDomain].bundle; was != nil && b.Number == was.Number {
		s.log.Error("two bundles have one number: make another with the next number", "trust_domain", b.TrustDomain, "bundle", b.Number)
	}
	s.putLocked(next)
	s.keepLocked()
	s.log.Info("bundle in force", "trust_domain", b.TrustDomain, "bundle", b.Number, "roots", len(b.Roots), "retired", len(b.Retired), "revoked", len(b.Revoked))
	return true, nil
}

// putLocked has next in force, by which the certificate of this process is judged again.
func (s *TrustStore) putLocked(next *trust) {
	was := s.now.Load().own
	next.own = own{chain: was.chain, root: was.root}
	_, err := verify(was.chain, next, judgement{usage: x509.ExtKeyUsageAny, at: time.Now(), open: true})
	if revoked := (*RevokedError)(nil); errors.As(err, &revoked) {
		revoked.Own, next.own.revoked = true, revoked
		s.log.Error("this process is revoked: no peer accepts it", "err", revoked)
	}
	s.now.Set(next)
}

// replace has in force what comes with a certificate of this process, if the certificate is
// good by that. It returns what the certificate proves and the root that it is under; nil: none
// that is known.
func (s *TrustStore) replace(id ID, m Material) (self Peer, root *x509.Certificate, err error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	old := s.now.Load()
	next, err := old.under(id, m)
	if err != nil {
		return Peer{}, nil, err
	}
	if self, err = next.judgeOwn(m.Chain, old.own.revoked != nil); err != nil {
		return Peer{}, nil, err
	}
	if id != old.self {
		return Peer{}, nil, fmt.Errorf("the new certificate is that of %s, this process is %s: restart it to change who it is", id, old.self)
	}
	s.now.Set(next)
	if !maps.Equal(next.bundles(), old.bundles()) {
		s.keepLocked()
	}
	return self, next.own.root, nil
}

// TrustDomains replaces the other trust domains whose members are taken in. It refuses
// a cluster that two claim.
func (s *TrustStore) TrustDomains(domains []Domain) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	old := s.now.Load()
	if err := checkDomains(old.self, domains); err != nil {
		return err
	}
	s.putLocked(newTrust(old.self, old.roots, domains, old.bundles()))
	return nil
}

// Past returns a channel that closes when what is trusted changes, or how the certificate of
// this process is judged: then who was trusted before has to be looked at again, with
// [TrustStore.Trusts].
func (s *TrustStore) Past() <-chan struct{} {
	_, past := s.now.Snapshot()
	return past
}

// Roots returns the roots of our own trust domain that a new connection may be under
// now; they must not be changed.
func (s *TrustStore) Roots() []*x509.Certificate {
	t := s.now.Load()
	return t.domains[t.self.TrustDomain].roots
}

// OwnRoot returns the root that this process's certificate is under, and whether that is
// the one that it should be under, the last of the bundle in force. Without a
// bundle any is. The fingerprint is zero when the root is not known.
func (s *TrustStore) OwnRoot() (root Fingerprint, newest bool) {
	t := s.now.Load()
	if t.own.root != nil {
		root = FingerprintOf(t.own.root)
	}
	d := t.domains[t.self.TrustDomain]
	return root, d.bundle == nil || root == d.last
}

// revoked returns why no peer accepts the certificate of this process; nil: it is not revoked.
func (s *TrustStore) revoked() *RevokedError { return s.now.Load().own.revoked }

// Takes reports whether a gateway may be part of the mesh: it is not revoked by name, nor
// is its cluster. Of revoked keys it knows nothing.
func (s *TrustStore) Takes(gateway mesh.GatewayID) bool {
	t := s.now.Load()
	id := ID{TrustDomain: cmp.Or(t.owner[gateway.Cluster], t.self.TrustDomain), Cluster: gateway.Cluster, Gateway: gateway.Name}
	return t.revokes(nil, id, "") == nil
}

// Held returns the number of the bundle in force of every trust domain that is taken; 0:
// there is none yet.
func (s *TrustStore) Held() map[string]uint64 {
	held := map[string]uint64{}
	for td, d := range s.now.Load().domains {
		held[td] = 0
		if d.bundle != nil {
			held[td] = d.bundle.Number
		}
	}
	return held
}

// Bundles returns the bundle in force of each trust domain that has one, by name.
func (s *TrustStore) Bundles() []*Bundle {
	var all []*Bundle
	for _, b := range s.now.Load().bundles() {
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b *Bundle) int { return strings.Compare(a.TrustDomain, b.TrustDomain) })
	return all
}

// WatchBundles calls each with every bundle that is in force and that comes into force,
// until ctx ends.
func (s *TrustStore) WatchBundles(ctx context.Context, each func(*Bundle)) {
	var was []*Bundle
	for {
		past := s.Past()
		now := s.Bundles()
		for _, b := range now {
			if !slices.Contains(was, b) {
				each(b)
			}
		}
		was = now
		if !state.Await(ctx, past) {
			return
		}
	}
}
