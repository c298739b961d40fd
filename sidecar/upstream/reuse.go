package upstream

import (
	"math"
	"sync/atomic"
	"time"
)

// reuseAge is how long a connection may have been idle for a request that cannot be
// repeated, as the closes that were seen say: many programs close theirs early, some at
// once. The zero value has seen no connection stay and allows none. Its methods may be
// called concurrently.
type reuseAge struct{ limit atomic.Int64 } // nanoseconds

// allows reports whether a connection that was idle for age may be used.
func (r *reuseAge) allows(age time.Duration) bool { return age < time.Duration(r.limit.Load()) }

// closedAt learns that a program closed a connection that was idle for age, or less.
func (r *reuseAge) closedAt(age time.Duration) {
	if l := max(age/reuseMargin, 1); r.allows(l) {
		r.limit.Store(int64(l))
	}
}

// openAt learns that a connection that was idle for age is still open: what was
// learned from a restart, which closes connections of any age, does not last.
func (r *reuseAge) openAt(age time.Duration) {
	switch l := age / reuseMargin; {
	case r.limit.Load() == 0:
		if age >= provenAge {
			r.limit.CompareAndSwap(0, math.MaxInt64)
		}
	case !r.allows(l):
		r.limit.Store(int64(l))
	}
}

// KeepFor says that who answers closes the connection when it is idle for d, as an
// answer's Keep-Alive field says. It must not be called after [Lease.Return].
func (l *Lease) KeepFor(d time.Duration) { l.Conn.keepFor = d * 3 / 4 }
