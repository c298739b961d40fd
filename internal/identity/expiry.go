package identity

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Err returns an [ExpiredError] or a [RevokedError] when the certificate in use has
// expired or was revoked, so that no peer accepts it, and nil otherwise.
func (s *Source) Err() error { return s.unusable(s.now.Load(), time.Now()) }

// unusable returns an error when no peer accepts what is shown.
func (s *Source) unusable(own *svid, now time.Time) error {
	if err := s.expired(own, now); err != nil {
		return err
	}
	if revoked := s.trust.revoked(); revoked != nil {
		return revoked
	}
	return nil
}

// Lifetime is how long the current certificate is valid, from when it was issued or,
// if that is longer, from when this process took it: an issuer may have dated it back.
func (s *Source) Lifetime() time.Duration { return s.now.Load().lifetime() }

// WarnFrom is when the current certificate should have been replaced: its end is
// near.
func (s *Source) WarnFrom() time.Time { return s.now.Load().warnFrom() }

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

// expired returns an [ExpiredError] when what is shown is not valid any more.
func (s *Source) expired(own *svid, now time.Time) error {
	if !now.After(own.ends) {
		return nil
	}
	return &ExpiredError{ID: own.id(), NotAfter: own.ends, Renew: s.origin.Renew}
}

// warnOfExpiry says that the certificate in use expires soon, or has expired: at once
// when that changes, and again at every warnEvery, until ctx ends.
func (s *Source) warnOfExpiry(ctx context.Context) {
	for lasts := true; lasts; {
		own, past := s.now.Snapshot()
		lasts = state.AwaitFor(ctx, s.warn(own, time.Now()), past)
	}
}

// warn says what there is to say of what is shown, and returns when to look again.
func (s *Source) warn(own *svid, now time.Time) time.Duration {
	if err := s.expired(own, now); err != nil {
		s.log.Error("certificate has expired: no peer accepts this process", "not_after", own.ends, "err", err)
		return warnEvery
	}
	until := own.ends.Sub(now) + time.Millisecond
	if early := own.warnFrom().Sub(now); early > 0 {
		return early
	}
	s.log.Warn("certificate expires soon: "+s.origin.Renew, "not_after", own.ends, "left", (until).Round(time.Second), "err", s.Fault())
	return min(warnEvery, until)
}
