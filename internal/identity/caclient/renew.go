package caclient

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// After a failure the CAs are asked again at this pace; for certificates that live shorter,
// often enough within what is left of their life.
const (
	minPause = time.Second
	maxPause = 30 * time.Second
	// maxUnderOld is how long a certificate under a root that a newer one replaces waits
	// at most for its renewal: while roots are rotated, and not all at once.
	maxUnderOld = 5 * time.Minute
)

// follow renews s at half of its certificate's life, and soon when a new root is trusted
// that it is not under, until ctx ends; once it has expired, by a new token.
func (c *Client) follow(ctx context.Context, s *identity.Source) {
	for due(ctx, s) {
		for pause := pauses(s.Lifetime()); ; {
			err := c.once(ctx, s)
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				break
			}
			s.Fail(err)
			if !state.Pause(ctx, pause.Next()) {
				return
			}
		}
	}
}

// once gets one new certificate and has it used. The token of a service account is there
// all the time, and shown when the certificate is not taken any more.
func (c *Client) once(ctx context.Context, s *identity.Source) error {
	if s.Err() == nil {
		m, err := c.renew(ctx, s)
		if err == nil {
			err = s.Replace(m)
		}
		if err == nil {
			c.save(m)
			return nil
		}
		if c.cfg.First == nil {
			return err
		}
	}
	m, err := c.enroll(ctx, s)
	if err != nil {
		return err
	}
	return s.Replace(m)
}

// due waits until s is to be renewed; false: ctx ended.
func due(ctx context.Context, s *identity.Source) bool {
	for first := true; ; first = false {
		past := s.Trust().Past()
		wait := time.Until(renewAt(s, time.Now(), rand.Int64N))
		if first {
			wait = max(wait, minPause) // however short its life
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			return true
		case <-past: // other roots may be trusted now
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
}

// renewAt is when half of the certificate's life is over, or up to a tenth of it earlier:
// processes that were started together do not renew together. When a newer root than its
// own is trusted it is sooner, and again as long as the CA has no intermediate under that.
func renewAt(s *identity.Source, now time.Time, random func(n int64) int64) time.Time {
	if s.Err() != nil {
		return now // nobody accepts it: a new token may be there
	}
	life := s.Lifetime()
	spread := func(over time.Duration) time.Duration { return time.Duration(random(int64(over) + 1)) }
	at := s.NotAfter().Add(-life/2 - spread(life/10))
	if _, newest := s.Trust().OwnRoot(); !newest {
		if soon := now.Add(spread(min(life/10, maxUnderOld))); soon.Before(at) {
			return soon
		}
	}
	return at
}

func pauses(life time.Duration) state.Backoff {
	most := min(max(life/16, minPause/4), maxPause)
	return state.Backoff{Min: min(minPause, most), Max: most}
}
