package xds

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is a pause that doubles from retryMin to retryMax, with jitter. The
// zero value is ready for use.
type backoff struct{ failures int }

// next returns the pause after one more failure: between half of and the whole
// of the doubled time, so that the sidecars of a gateway that died do not come
// back to it all at once.
func (b *backoff) next() time.Duration {
	d := min(retryMin<<min(b.failures, 16), retryMax)
	b.failures++
	return d/2 + rand.N(d/2+1)
}

func (b *backoff) reset() { b.failures = 0 }

// pause waits for d; false: ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
