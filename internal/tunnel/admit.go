package tunnel

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// admit takes a connection whose hello was read into the table, or says why not. It
// asks incumbents of another incarnation for a sign of life first.
func (n *Node) admit(ctx context.Context, c *conn) error {
	if c.gateway == n.cfg.Self {
		if c.incarnation == n.incarnation {
			return &closeError{code: codeSelf, reason: errSelf.Error()}
		}
		n.log.Error("another gateway has this gateway's name: give each its own name and certificate",
			"gateway", c.gateway, "peer_addr", c.quic.RemoteAddr())
		return duplicate(c.gateway)
	}
	c.founding = n.cfg.Identity.FoundingOf(c.quic.ConnectionState().TLS)
	for {
		incumbents, err := n.tryAdmit(c)
		if err != nil || len(incumbents) == 0 {
			return err
		}
		if alive(ctx, incumbents) {
			n.log.Error("two live gateways have one name, the newcomer is refused: give each its own name and certificate",
				"gateway", c.gateway, "incumbent", incumbents[0].quic.RemoteAddr(), "newcomer", c.quic.RemoteAddr())
			return duplicate(c.gateway)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for _, old := range incumbents {
			n.remove(old, &closeError{code: codeSuperseded, reason: "a newer process of the gateway took its place"})
			old.close(codeSuperseded, "a newer process of this gateway took its place")
		}
	}
}

func duplicate(gw mesh.GatewayID) error {
	return &closeError{code: codeDuplicate, reason: fmt.Sprintf("another live gateway is called %s: give each its own name and certificate", gw)}
}

// tryAdmit admits c unless connections of another incarnation are in the way, which it
// returns then.
func (n *Node) tryAdmit(c *conn) (incumbents []*conn, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing {
		return nil, &closeError{code: codeStopped, reason: "the gateway stops"}
	}
	if n.draining {
		return nil, &closeError{code: codeLeaving, reason: "the gateway leaves"}
	}
	p := n.peerLocked(c.gateway)
	own, all, now := 0, 0, time.Now()
	for _, other := range p.conns {
		if other.incarnation != c.incarnation {
			incumbents = append(incumbents, other)
		}
		if other.retired.Load() {
			continue
		}
		all++
		if other.dialled && other.current(now) {
			own++
		}
	}
	switch {
	case len(incumbents) > 0:
		return incumbents, nil
	case all >= maxConnections, c.dialled && own >= n.connections():
		return nil, &closeError{code: codeSurplus, reason: "there are enough connections already"}
	}
	p.conns = append(p.conns, c)
	p.left, p.forgotten, p.lastErr, p.addr, p.founding = false, false, "", c.quic.RemoteAddr().String(), c.founding
	if p.refreshLocked(now) {
		n.log.Info("tunnel up", "gateway", c.gateway, "peer_addr", p.addr, "dialled", c.dialled)
	}
	if !c.dialled {
		n.targets.redialLocked(c.gateway)
	}
	n.targets.heardLocked(c.quic.RemoteAddr(), c.gateway)
	p.retireLocked(n.connections(), now)
	n.changedLocked()
	return nil, nil
}

// alive asks connections for a sign of life and reports whether one gave it.
func alive(ctx context.Context, incumbents []*conn) bool {
	before := make([]uint64, len(incumbents))
	wait := probeWait
	for i, c := range incumbents {
		stats := c.quic.ConnectionStats()
		before[i] = stats.PacketsReceived
		wait = max(wait, probeRTTs*stats.SmoothedRTT)
		c.heartbeat()
	}
	deadline := time.Now().Add(wait)
	poll := time.NewTicker(probePoll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-poll.C:
		}
		dead := 0
		for i, c := range incumbents {
			if c.quic.Context().Err() != nil {
				dead++
			} else if c.quic.ConnectionStats().PacketsReceived > before[i] {
				return true
			}
		}
		if dead == len(incumbents) || time.Now().After(deadline) {
			return false
		}
	}
}
