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
)

// follow renews s at half of its certificate's life until ctx ends; once that has
// expired, by a new token.
func (c *Client) follow(ctx context.Context, s *identity.Source) {
	for state.Pause(ctx, max(minPause, time.Until(renewAt(s, rand.Int64N)))) {
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

// once gets one new certificate and has it used.
func (c *Client) once(ctx context.Context, s *identity.Source) error {
	if s.Err() == nil {
		m, err := c.renew(ctx, s)
		if err != nil {
			return err
		}
		if err := s.Replace(m); err != nil {
			return err
		}
		c.save(m)
		return nil
	}
	m, err := c.enroll(ctx)
	if err != nil {
		return err
	}
	return s.Replace(m)
}

// renewAt is when half of the certificate's life is over, or up to a tenth of it earlier:
// processes that were started together do not renew together.
func renewAt(s *identity.Source, random func(n int64) int64) time.Time {
	life := s.Lifetime()
	early := time.Duration(random(int64(life/10) + 1))
	return s.NotAfter().Add(-life/2 - early)
}

func pauses(life time.Duration) state.Backoff {
	most := min(max(life/16, minPause/4), maxPause)
	return state.Backoff{Min: min(minPause, most), Max: most}
}
