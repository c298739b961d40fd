package tunnel

import (
	"context"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// pulse measures the silence of one connection. It is owned by the goroutine that
// runs [Node.watch]; it has no clock.
type pulse struct {
	packets uint64        // received when last looked
	silent  time.Duration // since a packet was received, in ticks
	asked   time.Duration // value of silent at the last heartbeat
	late    time.Duration // longest recent silence that ended, fading
}

// limit returns the silence that means death.
func (p *pulse) limit(rtt time.Duration) time.Duration {
	l := min(max(silence, 2*p.late), maxLateSilence)
	return min(max(l, minSilenceRTTs*rtt), maxSilence)
}

// tick takes how long ago the last tick was, how many packets were received in
// all, and the smoothed round-trip time. It says whether to send a heartbeat now,
// and whether the peer is dead.
func (p *pulse) tick(elapsed time.Duration, packets uint64, rtt time.Duration) (heartbeat, dead bool) {
	elapsed = min(elapsed, tickWorth)
	p.late -= min(p.late, p.late*elapsed/lateMemory)
	if packets != p.packets {
		p.packets = packets
		p.late = max(p.late, p.silent)
		p.silent, p.asked = 0, 0
		return false, false
	}
	p.silent += elapsed
	limit := p.limit(rtt)
	if p.silent >= limit {
		return false, true
	}
	if p.silent-p.asked >= limit/heartbeats {
		p.asked = p.silent
		return true, false
	}
	return false, false
}

// watch is the one goroutine that watches all connections: their silence, their
// certificates, and their round-trip times. It must not block on any of them.
func (n *Node) watch(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	last, told := time.Now(), time.Now()
	past := n.cfg.Identity.Past()
	for {
		select {
		case <-ctx.Done():
			return
		case <-past:
			past = n.cfg.Identity.Past()
			n.judgeAgain()
			continue
		case <-ticker.C:
		}
		now := time.Now()
		elapsed := now.Sub(last)
		last = now
		for _, c := range n.conns() {
			stats := c.quic.ConnectionStats()
			heartbeat, dead := c.pulse.tick(elapsed, stats.PacketsReceived, stats.SmoothedRTT)
			c.quiet.Store(c.pulse.silent > c.pulse.limit(stats.SmoothedRTT)/2)
			switch {
			case !now.Before(c.expires):
				c.close(codeExpired, "certificate expired at "+c.expires.UTC().Format(time.RFC3339))
			case dead:
				c.close(codeSilent, "nothing heard for "+c.pulse.silent.String())
			case heartbeat:
				c.heartbeat()
			}
		}
		if now.Sub(told) >= rttEvery {
			told = now
			n.sweep(now)
		}
	}
}

// judgeAgain closes the connections to peers that would not be let in any more.
func (n *Node) judgeAgain() {
	for _, c := range n.conns() {
		if err := n.cfg.Identity.Trusts(c.quic.ConnectionState().TLS, identity.ExactGateway(c.gateway)); err != nil {
			n.log.Warn("a connection of a tunnel ends: its peer is trusted no more", "gateway", c.gateway, "err", err)
			c.close(codeUntrusted, "the certificate is trusted no more: give both sides the same root in roots.pem")
		}
	}
}
