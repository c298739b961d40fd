package identity

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Material is what a process is somebody with: it never changes.
type Material struct {
	Chain []*x509.Certificate // leaf first, then its intermediates
	Key   crypto.Signer       // the leaf's
	Roots []*x509.Certificate // every root that is trusted
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
	replacing sync.Mutex          // held by Replace
	metrics   metrics
}

// material is one consistent set of certificate, key and roots. It never
// changes after it was made.
type material struct {
	id    ID
	tls   *tls.Certificate // with Leaf
	key   crypto.Signer
	roots *x509.CertPool
	taken time.Time // when it was made
	ends  time.Time // when the first certificate of its own chain expires
	self  Peer      // what others take it for
}

// New returns a source of material that is good now, which origin goes on giving.
func New(m Material, origin Origin) (*Source, error) {
	first, err := newMaterial(m.Chain, m.Key, m.Roots)
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
	next, err := newMaterial(m.Chain, m.Key, m.Roots)
	if err != nil {
		return err
	}
	if id := s.ID(); next.id != id {
		return fmt.Errorf("the new certificate is that of %s, this process is %s: restart it to change who it is", next.id, id)
	}
	s.now.Set(next)
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

// Run has the origin followed and warns of expiry until ctx ends; then it returns nil.
func (s *Source) Run(ctx context.Context) error {
	var following sync.WaitGroup
	if s.origin.Follow != nil {
		following.Go(func() { s.origin.Follow(ctx, s) })
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

// Past returns a channel that closes when the certificate or the roots in use
// are replaced: then who was trusted before has to be looked at again, with
// [Source.Trusts]. It never closes for a source in memory.
func (s *Source) Past() <-chan struct{} {
	_, past := s.now.Snapshot()
	return past
}

// newMaterial checks that the parts belong together and are good at this
// moment, as a peer will.
func newMaterial(chain []*x509.Certificate, key crypto.Signer, roots []*x509.Certificate) (*material, error) {
	if len(chain) == 0 {
		return nil, errors.New("no certificate")
	}
	leaf := chain[0]
	id, err := IDOf(leaf)
	if err != nil {
		return nil, err
	}
	if pub, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(key.Public()) {
		return nil, fmt.Errorf("the key is not that of certificate %s", id)
	}
	m := &material{id: id, tls: &tls.Certificate{PrivateKey: key, Leaf: leaf}, key: key, roots: x509.NewCertPool(), taken: time.Now(), ends: leaf.NotAfter}
	for _, c := range chain {
		m.tls.Certificate = append(m.tls.Certificate, c.Raw)
		if c.NotAfter.Before(m.ends) {
			m.ends = c.NotAfter
		}
	}
	for _, r := range roots {
		m.roots.AddCert(r)
	}
	now := time.Now()
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		p, err := verify(chain, id.TrustDomain, m.roots, usage, now)
		if err != nil {
			return nil, err
		}
		m.self = p
	}
	return m, nil
}
