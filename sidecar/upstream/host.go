package upstream

import (
	"context"
	"errors"
	"log/slog"
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

// done ends an attempt that pick began, exactly once. conn is nil when get gave
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
			h.blame(now, a, conn.remote(), false, "broken exchanges or gateway errors")
		}
		if a == nil {
			return
		}
		a.fresh = true
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
	if o == GatewayError || !unprocessed && !stale && !unsent && !ours && first {
		h.blame(now, l.attempts, l.remote(), false, "broken exchanges or gateway errors")
	}
	if l.attempts == nil {
		return
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

// blame counts a failure for who caused it: the instance behind a gateway or,
// when who is zero, the host. A certain failure ejects at once.
func (h *Host) blame(now instant, a *Attempts, who connect.Instance, certain bool, why string) {
	if who == (connect.Instance{}) {
		h.ejectIfFailing(now, certain, why)
		return
	}
	if a != nil {
		a.avoidRemote(who)
	}
	if h.service.remotes.ejectIfFailing(who, now, certain) {
		h.service.metrics.ejections().Inc()
		h.service.shared.log.Info("ejected a remote instance", "service", h.service.label(), "instance", who.String(), "err", why)
	}
}

// ejectIfFailing counts a failure of the host itself and ejects it when it was certain
// or one of too many.
func (h *Host) ejectIfFailing(now instant, certain bool, why string) {
	s := h.service
	s.mu.Lock()
	was := h.outlier.ejected()
	ejected := h.outlier.fail(now, certain)
	h.lastError = why
	h.mirrorLocked()
	if ejected && !was && s.hosts[h.key] == h {
		s.rebuildLocked(now)
	}
	pause := h.outlier.until.since(now)
	s.mu.Unlock()
	if !ejected {
		return
	}
	s.metrics.ejections().Inc()
	level := slog.LevelInfo
	if was {
		level = slog.LevelDebug // no change of state: a probe failed
	}
	s.shared.log.Log(context.Background(), level, "ejected a host", "service", s.label(), "host", h.key.addr, "for", pause, "err", why)
}

// connected clears an ejection for what a new connection has disproved.
func (h *Host) connected(now instant) { h.reinstate(now, true) }

// succeeded clears what failures have left, if anything.
func (h *Host) succeeded(now instant) { h.reinstate(now, false) }

// reinstate puts the host back into service; with certainOnly only one that was
// ejected because nobody could connect to it.
func (h *Host) reinstate(now instant, certainOnly bool) {
	if !h.troubled.Load() {
		return
	}
	s := h.service
	s.mu.Lock()
	if certainOnly && !h.outlier.certain {
		s.mu.Unlock()
		return
	}
	was := h.outlier.ejected()
	h.outlier.succeed(now)
	h.mirrorLocked()
	if was {
		h.startSlowly(now)
		if s.hosts[h.key] == h {
			s.rebuildLocked(now)
		}
	}
	s.mu.Unlock()
	if was {
		s.shared.log.Info("a host is back in service", "service", s.label(), "host", h.key.addr)
	}
}

// claimProbe reports whether the calling request is to probe the ejected host.
func (h *Host) claimProbe(now instant) bool {
	if at := instant(h.probeAt.Load()); at == 0 || now < at {
		return false
	}
	h.service.mu.Lock()
	defer h.service.mu.Unlock()
	ok := h.outlier.probe(now)
	h.mirrorLocked()
	return ok
}

// superseded is [Lease.Superseded].
func (h *Host) superseded(a *Attempts) bool {
	return h.doubtful.Load() && h.service.candidates.Load().others(a)
}

// mirrorLocked renews what follows from ready and outlier.
func (h *Host) mirrorLocked() {
	h.doubtful.Store(!h.ready || h.outlier.ejected() && h.outlier.certain)
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
