package state

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is the pause between attempts: it doubles from Min to Max, with jitter.
// It belongs to one goroutine.
type Backoff struct {
	Min, Max time.Duration
	failures int
}

// Next returns the pause after one more failure.
func (b *Backoff) Next() time.Duration {
	d := Delay(b.Min, b.Max, b.failures, rand.Int64N)
	b.failures++
	return d
}

// Reset makes the next pause a short one again: an attempt has succeeded.
func (b *Backoff) Reset() { b.failures = 0 }

// Delay returns the pause after a failure that follows so many others: between half
// of and the whole of the doubled time, so that all who lost the same peer do not
// come back to it at once. random(n) returns a number in [0, n), as [rand.Int64N].
func Delay(least, most time.Duration, failures int, random func(n int64) int64) time.Duration {
	d := most
	if shift := max(failures, 0); shift < 32 && least < most>>shift {
		d = least << shift
	}
	return d/2 + time.Duration(random(int64(d/2)+1))
}

// Pause waits for d and reports whether ctx lasted as long.
func Pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
