package identity

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Material is what a process is somebody with: it never changes.
type Material struct {
	Chain []*x509.Certificate // leaf first, then its intermediates
	Key   crypto.Signer       // the leaf's
	Roots []*x509.Certificate // every root that is trusted, beside what bundles say
	// Bundle is a signed [Bundle] that came with the rest; nil: none did.
	Bundle []byte
}

// Origin is where the material of a [Source] comes from. The zero value gives none
// after the first.
type Origin struct {
	// Follow hands newer material to [Source.Replace], and why there is none to
	// [Source.Fail], until ctx ends. Nil: what the source was made with is all.
	Follow func(ctx context.Context, s *Source)
	// Renew is what an operator does about a certificate that expires.
	Renew string
}

// Source is the identity of this process: its certificate and key, and the
// roots that it trusts. All methods may be called concurrently.
type Source struct {
	// Log is told of replacements and of an approaching expiry. Nil: silent.
	// Set it before Run.
	Log *slog.Logger

	origin    Origin
	now       state.Store[*material]
	fault     state.Store[string] // what Fail was told last; empty: all is well
	replacing sync.Mutex          // held by who replaces now
	saver     *state.Saver        // of the bundles in force; guarded by replacing; nil: they are not kept
	metrics   metrics
}

// material is one consistent set of certificate, key and roots. It never
// changes after it was made.
type material struct {
	id      ID
	chain   []*x509.Certificate
	root    *x509.Certificate // that it is under
	tls     *tls.Certificate  // chain with its key, and a gateway's with its root
	key     crypto.Signer
	roots   []*x509.Certificate
	trust   *trust        // roots, and what bundles say beside them
	taken   time.Time     // when it was made
	ends    time.Time     // when the first certificate of its own chain expires
	self    Peer          // what others take it for
	revoked *RevokedError // no peer accepts it; nil: it is not
}

// New returns a source of material that is good now, which origin goes on giving.
func New(m Material, origin Origin) (*Source, error) {
	first, err := newMaterial(m, nil)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return newSource(first, origin), nil
}

func newSource(first *material, origin Origin) *Source {
	s := &Source{origin: origin, metrics: newMetrics()}
	s.now.Set(first)
	return s
}

// Replace has newer material of the same identity in use from now on. What is not
// complete and good, as a peer will judge it, is refused, and nothing changes.
func (s *Source) Replace(m Material) error {
	s.replacing.Lock()
	defer s.replacing.Unlock()
	old := s.now.Load()
	next, err := newMaterial(m, old)
	if err != nil {
		return err
	}
	if next.id != old.id {
		return fmt.Errorf("the new certificate is that of %s, this process is %s: restart it to change who it is", next.id, old.id)
	}
	s.now.Set(next)
	if !maps.Equal(next.trust.bundles(), old.trust.bundles()) {
		s.keepLocked()
	}
	s.fault.Set("")
	s.metrics.replaced.Inc()
	s.log().Info("identity replaced", "id", next.id.String(), "not_after", next.ends)
	return nil
}

// Fail notes why there is no newer material: [Source.Fault], the log and the metrics
// say it until Replace or Fine is called. The same reason again is logged once.
func (s *Source) Fail(err error) {
	s.metrics.failed.Inc()
	if err.Error() == s.fault.Load() {
		return
	}
	s.fault.Set(err.Error())
	s.log().Error("no newer identity, the last good one stays in use", "not_after", s.NotAfter(), "err", err)
}

// Fine says that what is in use is what the origin has: what Fail said is over.
func (s *Source) Fine() {
	if s.fault.Load() == "" {
		return
	}
	s.fault.Set("")
	s.log().Info("identity is up to date again", "id", s.ID().String(), "not_after", s.NotAfter())
}

func (s *Source) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// Run has the origin followed, what could not be kept written again, and warns of expiry until ctx ends; then it returns nil.
func (s *Source) Run(ctx context.Context) error {
	var following sync.WaitGroup
	if s.origin.Follow != nil {
		following.Go(func() { s.origin.Follow(ctx, s) })
	}
	s.replacing.Lock()
	saver := s.saver
	s.replacing.Unlock()
	if saver != nil {
		following.Go(func() { saver.Run(ctx) })
	}
	s.warnOfExpiry(ctx)
	following.Wait()
	return nil
}

// ID returns who this process is. It never changes: material that says otherwise
// is refused.
func (s *Source) ID() ID { return s.now.Load().id }

// Fault returns why there is no newer material than that in use, or "".
func (s *Source) Fault() string { return s.fault.Load() }

// NotAfter returns when the current certificate, or the first of its
// intermediates, expires. A later certificate may replace it before.
func (s *Source) NotAfter() time.Time { return s.now.Load().ends }

// Roots returns the roots of our own trust domain that a new connection may be under
// now; they must not be changed.
func (s *Source) Roots() []*x509.Certificate {
	m := s.now.Load()
	return m.trust.domains[m.id.TrustDomain].roots
}

// Past returns a channel that closes when the certificate in use or what is trusted is
// replaced: then who was trusted before has to be looked at again, with
// [Source.Trusts].
func (s *Source) Past() <-chan struct{} {
	_, past := s.now.Snapshot()
	return past
}

// newMaterial checks that the parts belong together and are good at this moment, as a
// peer will. What old trusted beside other roots still is; nil: nothing. When old is revoked,
// so may the new one be: its cluster may have been let in again, which is not known here yet.
func newMaterial(from Material, old *material) (*material, error) {
	if len(from.Chain) == 0 {
		return nil, errors.New("no certificate")
	}
	leaf := from.Chain[0]
	id, err := IDOf(leaf)
	if err != nil {
		return nil, err
	}
	if pub, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(from.Key.Public()) {
		return nil, fmt.Errorf("the key is not that of certificate %s", id)
	}
	m := &material{id: id, chain: from.Chain, tls: &tls.Certificate{PrivateKey: from.Key, Leaf: leaf}, key: from.Key, roots: from.Roots, taken: time.Now(), ends: leaf.NotAfter}
	for _, c := range from.Chain {
		m.tls.Certificate = append(m.tls.Certificate, c.Raw)
		if c.NotAfter.Before(m.ends) {
			m.ends = c.NotAfter
		}
	}
	var was *trust
	if old != nil {
		was = old.trust
	}
	m.trust = was.under(id.TrustDomain, from.Roots)
	if err := m.acceptOwn(from.Bundle); err != nil {
		return nil, err
	}
	now := time.Now()
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		j := judgement{usage: usage, at: now}
		p, err := verify(from.Chain, m.trust, j)
		if revoked := (*RevokedError)(nil); old != nil && old.revoked != nil && errors.As(err, &revoked) {
			revoked.Own, m.revoked, j.pardoned = true, revoked, revoked.What
			p, err = verify(from.Chain, m.trust, j)
		}
		if err != nil {
			return nil, err
		}
		m.self = p
	}
	m.root = m.trust.domains[id.TrustDomain].rootOf(from.Chain)
	if id.IsGateway() && m.root != nil {
		// For those of other trust domains that know its fingerprint only.
		m.tls.Certificate = append(m.tls.Certificate, m.root.Raw)
	}
	return m, nil
}

// set puts other trust in force. The caller holds replacing.
func (s *Source) set(m *material, t *trust) {
	next := *m
	next.trust, next.revoked = t, nil
	_, err := verify(m.chain, t, judgement{usage: x509.ExtKeyUsageAny, at: time.Now(), open: true})
	if revoked := (*RevokedError)(nil); errors.As(err, &revoked) {
		revoked.Own, next.revoked = true, revoked
		s.log().Error("this process is revoked: no peer accepts it", "err", revoked)
	}
	s.now.Set(&next)
}
