package upstream

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
)

// blameConnect ejects whoever has prevented a connection.
func (h *Host) blameConnect(ctx context.Context, a *Attempts, failure *ConnectError) {
	now := h.service.shared.now()
	var refusal *connect.Refusal
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		// The caller has gone: we do not know what would have come.
	case failure.Stage == StageLocal: // no host is to blame
		if n := h.service.shared.shortages.Add(time.Now(), shortageInterval); n > 0 {
			h.service.shared.log.Warn("this machine cannot connect: "+failure.Advice(), "service", h.service.label(), "host", h.key.addr, "failed", n, "err", failure.Err)
		}
	case errors.As(failure.Err, &refusal):
		// The gateway works. Only when it keeps saying that it reaches nobody
		// are others better.
		if refusal.Status >= 500 {
			h.ejectIfFailing(now, suspected, failure.Err.Error())
		}
	case h.key.gateway && failure.Stage == StageHandshake:
		who := connect.Instance{Cluster: failure.Cluster, Name: failure.Instance}
		h.blame(now, a, who, unconnected, failure.Err.Error())
		if a != nil && who != (connect.Instance{}) {
			a.removeTried(h)
		}
	default:
		// A caller whose own deadline was shorter than ours proves less.
		f := unconnected
		if ctx.Err() != nil {
			f = suspected
		}
		h.ejectIfFailing(now, f, failure.Err.Error())
	}
}

// blame counts a failure for who caused it: the instance behind a gateway or,
// when who is zero, the host.
func (h *Host) blame(now instant, a *Attempts, who connect.Instance, f fault, why string) {
	if who == (connect.Instance{}) {
		h.ejectIfFailing(now, f, why)
		return
	}
	if a != nil {
		a.avoidRemote(who)
	}
	if h.service.remotes.excludeIfFailing(who, now, f) {
		h.service.metrics.ejections().Inc()
		h.service.shared.log.Info("ejected a remote instance", "service", h.service.label(), "instance", who.String(), "err", why)
	}
}

// blameFor blames who for an attempt that ended with o.
func (h *Host) blameFor(now instant, a *Attempts, who connect.Instance, o Outcome) {
	if o == Unserved {
		h.blame(now, a, who, unserved, "its sidecar does not reach the program")
		return
	}
	h.blame(now, a, who, suspected, "broken exchanges or gateway errors")
}

// ejectIfFailing counts a failure of the host itself and ejects it when it was no suspicion,
// or one of too many.
func (h *Host) ejectIfFailing(now instant, f fault, why string) {
	s := h.service
	s.mu.Lock()
	was := h.outlier.ejected()
	ejected := h.outlier.fail(now, f)
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

// reinstate puts the host back into service; with closedOnly only one that was
// ejected because nobody could connect to it.
func (h *Host) reinstate(now instant, closedOnly bool) {
	if !h.troubled.Load() {
		return
	}
	s := h.service
	s.mu.Lock()
	if closedOnly && !h.outlier.closed {
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
