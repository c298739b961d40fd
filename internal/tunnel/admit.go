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
	past := n.cfg.Identity.Trust().Past() // before the judgement
	peer, err := n.cfg.Identity.Trust().Peer(c.quic.ConnectionState().TLS)
	if err != nil {
		return err
	}
	c.founding = peer.Founding
	for {
		incumbents, err := n.table.tryAdmit(c)
		if err == nil && len(incumbents) == 0 {
			err = n.stillTrusted(c, past)
		}
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
			n.table.remove(old, &closeError{code: codeSuperseded, reason: "a newer process of the gateway took its place"})
			old.close(codeSuperseded, "a newer process of this gateway took its place")
		}
	}
}

// stillTrusted judges a connection that is in the table now again, if what is trusted has
// changed since it was judged: it may have missed the watcher's judgement.
func (n *Node) stillTrusted(c *conn, past <-chan struct{}) error {
	select {
	case <-past:
	default:
		return nil
	}
	_, err := n.cfg.Identity.Trust().Peer(c.quic.ConnectionState().TLS)
	if err != nil {
		n.table.remove(c, &closeError{code: codeUntrusted, reason: err.Error()})
	}
	return err
}

func duplicate(gw mesh.GatewayID) error {
	return &closeError{code: codeDuplicate, reason: fmt.Sprintf("another live gateway is called %s: give each its own name and certificate", gw)}
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
