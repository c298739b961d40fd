package identity

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// Err returns an [ExpiredError] or a [RevokedError] when the certificate in use has
// expired or was revoked, so that no peer accepts it, and nil otherwise.
func (s *Source) Err() error { return s.unusable(s.now.Load(), time.Now()) }

// unusable returns an error when no peer accepts m.
func (s *Source) unusable(m *material, now time.Time) error {
	if err := s.expired(m, now); err != nil {
		return err
	}
	if m.revoked != nil {
		return m.revoked
	}
	return nil
}

// Lifetime is how long the current certificate is valid, from when it was issued or,
// if that is longer, from when this process took it: an issuer may have dated it back.
func (s *Source) Lifetime() time.Duration { return s.now.Load().lifetime() }

// WarnFrom is when the current certificate should have been replaced: its end is
// near.
func (s *Source) WarnFrom() time.Time { return s.now.Load().warnFrom() }

func (m *material) lifetime() time.Duration {
	return max(m.ends.Sub(m.taken), m.ends.Sub(m.tls.Leaf.NotBefore)-backdate)
}

// warnFrom leaves an operator a week for certificates that live long, and is past the
// half of life at which others are renewed.
func (m *material) warnFrom() time.Time {
	return m.ends.Add(-min(warnBefore, m.lifetime()/4))
}

// ExpiredError says that this process's own certificate has expired: its peers
// accept no connection from it. They can only answer with a TLS alert, so this
// end says why.
type ExpiredError struct {
	ID       ID
	NotAfter time.Time
	Renew    string // what to do
}

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("this process's own certificate (%s) expired at %s: %s, or check the clock", e.ID, stamp(e.NotAfter), e.Renew)
}

// expired returns an [ExpiredError] when m is not valid any more.
func (s *Source) expired(m *material, now time.Time) error {
	if !now.After(m.ends) {
		return nil
	}
	return &ExpiredError{ID: m.id, NotAfter: m.ends, Renew: s.howToRenew()}
}

func (s *Source) howToRenew() string { return cmp.Or(s.origin.Renew, howToIssueAnew) }

// warnOfExpiry says that the certificate in use expires soon, or has expired: at once
// when that changes, and again at every warnEvery, until ctx ends.
func (s *Source) warnOfExpiry(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		m, past := s.now.Snapshot()
		timer.Reset(s.warn(m, time.Now()))
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return
			case <-past:
				waiting = false
			case <-timer.C:
				timer.Reset(s.warn(m, time.Now()))
			}
		}
	}
}

// warn says what there is to say of m now, and returns when to look again.
func (s *Source) warn(m *material, now time.Time) time.Duration {
	if err := s.expired(m, now); err != nil {
		s.log().Error("certificate has expired: no peer accepts this process", "not_after", m.ends, "err", err)
		return warnEvery
	}
	until := m.ends.Sub(now) + time.Millisecond
	if early := m.warnFrom().Sub(now); early > 0 {
		return early
	}
	s.log().Warn("certificate expires soon: "+s.howToRenew(), "not_after", m.ends, "left", (until).Round(time.Second), "err", s.Fault())
	return min(warnEvery, until)
}
