package upstream

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// Host is an address that serves a service's destination: an endpoint of the
// sidecar's own cluster, or a gateway. Its methods may be called concurrently.
type Host struct {
	service        *Service
	key            hostKey
	pool           pool
	sharing        sharing
	still          stillness
	latency        latency
	active         atomic.Int64  // picks without Done
	weight         atomic.Uint32 // at least 1
	slowStartSince atomic.Int64  // instant since when it warms up, 0: it does not

	// What follows from ready and outlier, for readers without the lock.
	troubled atomic.Bool  // a success has something to clear
	probeAt  atomic.Int64 // outlier.until
	doubtful atomic.Bool  // not ready, or nobody can connect to it

	// Guarded by service.mu.
	ready     bool // false also once the route does not name it any more
	outlier   outlier
	lastError string
}

// hostKey tells hosts apart: an instance that is replaced by another one at the
// same address is another host.
type hostKey struct {
	addr     string
	instance string // empty for a gateway
	gateway  bool
	plain    bool
}

func (k hostKey) priority() int {
	if k.gateway {
		return 1
	}
	return 0
}

func newHost(s *Service, key hostKey) *Host {
	h := &Host{service: s, key: key}
	h.pool.init(h)
	h.sharing.init(h)
	return h
}

// done ends an attempt that pickHost began, exactly once. conn is nil when get gave
// none; a may be nil when there will be no other attempt.
func (h *Host) done(now instant, a *Attempts, conn *Conn, o Outcome, latency time.Duration) {
	h.active.Add(-1)
	if conn != nil && conn.instance != nil {
		conn.instance.active.Add(-1)
	}
	switch {
	case o == Answered:
		h.answered(now, conn, latency)
	case o == Abandoned:
	case conn == nil: // get has blamed whom it must
	default:
		stale := o == Broken && conn.Reused
		// A pooled connection that broke before an answer perhaps only was idle
		// for too long: the next one is fresh and will tell.
		if !stale || conn.Answered() {
			h.blameFor(now, a, conn.remote(), o)
		}
		if a == nil {
			return
		}
		a.fresh = a.fresh || o != Unserved || h.key.gateway
		if stale || h.key.gateway {
			a.removeTried(h)
		}
	}
}

// doneOnStream is done for an attempt that ran on a stream.
func (h *Host) doneOnStream(now instant, l *Lease, o Outcome, latency time.Duration) {
	h.active.Add(-1)
	if l.instance != nil {
		l.instance.active.Add(-1)
	}
	switch o {
	case Answered:
		h.answered(now, l.Conn, latency)
		return
	case Abandoned:
		return
	}
	var reset *streams.ResetError
	cause := l.stream.Err()
	unprocessed := errors.As(cause, &reset) && reset.Unprocessed
	died := errors.As(cause, new(*streams.ConnError))
	stale := died && o == Broken && (l.reused || l.Reused) && !l.Answered()
	// The end of a connection is one failure, however many streams it had.
	first := !died || l.blamed.CompareAndSwap(false, true)
	unsent := cause == nil && !l.Sent()                       // it had no place on the connection
	ours := reset != nil && !reset.Remote && reset.Text == "" // it was given up here
	if o != Broken || !unprocessed && !stale && !unsent && !ours && first {
		h.blameFor(now, l.attempts, l.remote(), o)
	}
	if l.attempts == nil {
		return
	}
	if who := l.remote(); died && !stale && !first && who != (connect.Instance{}) {
		l.attempts.avoidRemote(who)
	}
	l.attempts.fresh = l.attempts.fresh || !l.shared
	// Who refuses a stream is asked after all others, and who said goodbye once more.
	goodbye := unprocessed && l.stream.Conn().GoingAway() && l.attempts.goodbye != h
	if goodbye {
		l.attempts.goodbye = h
	}
	if stale || goodbye || h.key.gateway {
		l.attempts.removeTried(h)
	}
}

// answered takes in that an attempt on conn had its answer.
func (h *Host) answered(now instant, conn *Conn, latency time.Duration) {
	if latency > 0 {
		h.latency.observe(latency, now)
	}
	h.succeeded(now)
	if who := conn.remote(); who != (connect.Instance{}) {
		h.service.remotes.reinstate(who)
	}
}

// superseded is [Lease.Superseded].
func (h *Host) superseded(a *Attempts) bool {
	return h.doubtful.Load() && h.service.candidates.Load().others(a)
}

// mirrorLocked renews what follows from ready and outlier.
func (h *Host) mirrorLocked() {
	h.doubtful.Store(!h.ready || h.outlier.ejected() && h.outlier.closed)
	h.troubled.Store(h.outlier.failures > 0 || h.outlier.ejected())
	h.probeAt.Store(int64(h.outlier.until))
}

// startSlowly begins the warm-up of a host that came back. Gateways need none:
// they are not caches that were lost.
func (h *Host) startSlowly(now instant) {
	if h.key.gateway || h.service.shared.warmup <= 0 || h.service.young(now) {
		return
	}
	h.slowStartSince.Store(int64(now))
}

func (h *Host) slowStartWeight(now instant, warmup time.Duration) float64 {
	return float64(h.weight.Load()) * slowStartWeight(instant(h.slowStartSince.Load()), now, warmup)
}
