package identity

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
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
	// Renew is what an operator does about a certificate that expires. Empty: what is to be
	// done about one in files.
	Renew string
}

// Source is the identity of this process: the certificate and key that it shows now, which
// the origin renews, and its [TrustStore]. All methods may be called concurrently.
type Source struct {
	log    *slog.Logger
	origin Origin
	trust  TrustStore

	now       state.Store[*svid]
	fault     state.Store[string] // what Fail was told last; empty: all is well
	replacing sync.Mutex          // held by who replaces now
	metrics   metrics
}

// New returns a source of material that is good now, which origin goes on giving.
func New(m Material, origin Origin) (*Source, error) {
	s, err := newSource(m, origin)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return s, nil
}

func newSource(m Material, origin Origin) (*Source, error) {
	origin.Renew = cmp.Or(origin.Renew, howToIssueAnew)
	first, err := newSVID(m)
	if err != nil {
		return nil, err
	}
	s := &Source{origin: origin, metrics: newMetrics()}
	s.LogTo(slog.New(slog.DiscardHandler))
	s.trust.now.Set(newTrust(first.id(), nil, nil, nil))
	return s, s.take(first, m)
}

// LogTo has replacements, what is trusted and an approaching expiry logged. Without it the
// source is silent. Call it before all else.
func (s *Source) LogTo(log *slog.Logger) { s.log, s.trust.log = log, log }

// Trust returns what this process trusts.
func (s *Source) Trust() *TrustStore { return &s.trust }

// Replace has newer material of the same identity in use from now on. What is not
// complete and good, as a peer will judge it, is refused, and nothing changes.
func (s *Source) Replace(m Material) error {
	s.replacing.Lock()
	defer s.replacing.Unlock()
	next, err := newSVID(m)
	if err != nil {
		return err
	}
	if err := s.take(next, m); err != nil {
		return err
	}
	s.fault.Set("")
	s.metrics.replaced.Inc()
	s.log.Info("identity replaced", "id", next.id().String(), "not_after", next.ends)
	return nil
}

// take has what the material trusts in force, if its certificate is good by that, and then the
// certificate in use.
func (s *Source) take(next *svid, m Material) error {
	self, root, err := s.trust.replace(next.id(), m)
	if err != nil {
		return err
	}
	next.self = self
	if self.IsGateway() && root != nil {
		// For those of other trust domains that know its fingerprint only.
		next.tls.Certificate = append(next.tls.Certificate, root.Raw)
	}
	s.now.Set(next)
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
	s.log.Error("no newer identity, the last good one stays in use", "not_after", s.NotAfter(), "err", err)
}

// Fine says that what is in use is what the origin has: what Fail said is over.
func (s *Source) Fine() {
	if s.fault.Load() == "" {
		return
	}
	s.fault.Set("")
	s.log.Info("identity is up to date again", "id", s.ID().String(), "not_after", s.NotAfter())
}

// Run has the origin followed, what could not be kept written again, and warns of expiry until ctx ends; then it returns nil.
func (s *Source) Run(ctx context.Context) error {
	var following sync.WaitGroup
	if s.origin.Follow != nil {
		following.Go(func() { s.origin.Follow(ctx, s) })
	}
	following.Go(func() { s.trust.keep(ctx) })
	s.warnOfExpiry(ctx)
	following.Wait()
	return nil
}

// ID returns who this process is. It never changes: material that says otherwise
// is refused.
func (s *Source) ID() ID { return s.now.Load().id() }

// Self returns what others take this process for. It must not be changed.
func (s *Source) Self() Peer { return s.now.Load().self }

// Fault returns why there is no newer material than that in use, or "".
func (s *Source) Fault() string { return s.fault.Load() }

// NotAfter returns when the current certificate, or the first of its
// intermediates, expires. A later certificate may replace it before.
func (s *Source) NotAfter() time.Time { return s.now.Load().ends }

// Renewed returns a channel that closes when the certificate in use is replaced. What is
// trusted may change without it: see [TrustStore.Past].
func (s *Source) Renewed() <-chan struct{} {
	_, past := s.now.Snapshot()
	return past
}
