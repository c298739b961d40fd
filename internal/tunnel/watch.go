package tunnel

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// watcher watches all connections, in one goroutine: their silence, the size of
// packets that they pass, their certificates, and their round-trip times. It must
// not block on any of them.
type watcher struct {
	table *table
	trust *identity.TrustStore
	log   *slog.Logger
}

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	last, swept := time.Now(), time.Now()
	past := w.trust.Past()
	for {
		select {
		case <-ctx.Done():
			return
		case <-past:
			past = w.trust.Past()
			w.judgeAgain()
			continue
		case <-ticker.C:
		}
		now := time.Now()
		elapsed := worth(now.Sub(last))
		last = now
		for _, c := range w.table.conns() {
			if !c.expelAt.IsZero() && !now.Before(c.expelAt) {
				c.close(codeUntrusted, c.expelWhy)
				continue
			}
			w.check(c, now, elapsed)
		}
		if now.Sub(swept) >= sweepEvery {
			swept = now
			w.table.sweep(now)
		}
	}
}

// worth returns what a tick that comes so long after the last adds to a peer's silence.
func worth(elapsed time.Duration) time.Duration { return min(elapsed, tickWorth) }

// check looks at one connection: every tick while its peer is in use or a probe is to be
// echoed, else now and then.
func (w *watcher) check(c *conn, now time.Time, elapsed time.Duration) {
	c.unchecked += elapsed
	switch busy := c.use.busy(now); {
	case busy && c.pulse.idle:
		c.pulse.wake()
		c.heartbeat()
	case !busy && c.unchecked < idleTick && c.prober.oldest == 0:
		return
	default:
		c.pulse.idle = !busy
	}
	elapsed, c.unchecked = c.unchecked, 0
	stats := c.quic.ConnectionStats()
	if w.closeIfDead(c, now, elapsed, stats) {
		return
	}
	w.checkSize(c, now, elapsed, stats.SmoothedRTT)
	c.checkRenewal(now)
}

// closeIfDead closes a connection on which nothing was heard for too long or whose
// certificate has expired, and reports whether it did.
func (w *watcher) closeIfDead(c *conn, now time.Time, elapsed time.Duration, stats quic.ConnectionStats) bool {
	heartbeat, dead := c.pulse.tick(elapsed, stats.PacketsReceived, stats.SmoothedRTT)
	c.quiet.Store(c.pulse.silent > c.pulse.limit(stats.SmoothedRTT)/2)
	switch {
	case !now.Before(c.expires) && !w.table.vouched(c, now):
		c.close(codeExpired, "certificate expired at "+c.expires.UTC().Format(time.RFC3339))
		return true
	case dead:
		c.close(codeSilent, "nothing heard for "+c.pulse.silent.Round(10*time.Millisecond).String())
		return true
	case heartbeat:
		c.heartbeat()
	}
	return false
}

// checkSize sees to it that a connection whose large packets are lost is replaced.
func (w *watcher) checkSize(c *conn, now time.Time, elapsed, rtt time.Duration) {
	every := probeEvery
	if c.pulse.idle {
		every = idleProbeEvery
	}
	heard := heardOf{c.pulse.silent == 0, c.echoed.Load(), c.probed.Load(), time.Duration(c.probeNext.Load()) * time.Second}
	probe, passes := c.prober.tick(elapsed, every, heard, rtt)
	if probe {
		c.probe(c.prober.sent, every)
	}
	if was := c.narrow.Swap(passes != passesAll); passes != passesAll && !was {
		w.table.reduced(c, now)
	}
	if passes == passesNone {
		c.close(codeTooLarge, "its large packets are lost on the way: has an MTU shrunk?") // its streams would never end
	}
}

// whyUntrusted says to the peer why it is trusted no more.
func whyUntrusted(err error) string {
	if revoked := (*identity.RevokedError)(nil); errors.As(err, &revoked) {
		return "the peer is revoked, by the entry " + revoked.What
	}
	return "the certificate is trusted no more: give both sides the same root in roots.pem"
}

// expel closes a connection to a peer that is trusted no more: when it was revoked only
// after it could be told so, by the bundle that is on its way to it.
func (w *watcher) expel(c *conn, why error, now time.Time) {
	if c.expelAt.IsZero() {
		w.log.Warn("a connection of a tunnel ends: its peer is trusted no more", "gateway", c.gateway, "err", why)
		c.expelWhy, c.expelAt = whyUntrusted(why), now
		if revoked := (*identity.RevokedError)(nil); errors.As(why, &revoked) {
			c.expelAt = now.Add(lastWords)
		}
	}
	if !now.Before(c.expelAt) {
		c.close(codeUntrusted, c.expelWhy)
	}
}

// judgeAgain closes the connections to peers that would not be let in any more.
func (w *watcher) judgeAgain() {
	now := time.Now()
	for _, c := range w.table.conns() {
		trusts := w.trust.Trusts
		if !now.Before(c.expires) {
			trusts = w.trust.TrustsRenewed // see vouched
		}
		if err := trusts(c.quic.ConnectionState().TLS, identity.ExactGateway(c.gateway)); err != nil {
			w.expel(c, err, now)
		}
	}
}
