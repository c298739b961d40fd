package upstream

import "time"

// instant is a moment on the monotonic clock, in nanoseconds since a set was
// made, never 0: 0 stands for "not at all". The arithmetic of this package
// (shares, ejection, budget, latency) takes instants and has no clock.
type instant int64

// clock gives instants. Its methods may be called concurrently.
type clock struct{ base time.Time }

func newClock() clock { return clock{time.Now()} }

func (c clock) now() instant { return instant(time.Since(c.base)) + 1 }

// at returns the instant of a time that [time.Now] gave since the set was made.
func (c clock) at(t time.Time) instant { return max(instant(t.Sub(c.base))+1, 1) }

func (i instant) add(d time.Duration) instant { return i + instant(d) }

// since returns the time from earlier to i.
func (i instant) since(earlier instant) time.Duration { return time.Duration(i - earlier) }
