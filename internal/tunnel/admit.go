package tunnel

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// admit takes a tunnel whose hello was read into the table, or says why not. It
// asks incumbents of another instance for a sign of life first.
func (e *Endpoint) admit(ctx context.Context, t *tunnel) error {
	if t.gateway == e.cfg.Self {
		if t.instance == e.instance {
			return &closeError{code: codeSelf, reason: errSelf.Error()}
		}
		e.log.Error("another gateway has this gateway's name: give each its own name and certificate",
			"peer", t.gateway, "addr", t.conn.RemoteAddr())
		return duplicate(t.gateway)
	}
	for {
		incumbents, err := e.tryAdmit(t)
		if err != nil || len(incumbents) == 0 {
			return err
		}
		if alive(ctx, incumbents) {
			e.log.Error("two live gateways have one name, the newcomer is refused: give each its own name and certificate",
				"peer", t.gateway, "incumbent", incumbents[0].conn.RemoteAddr(), "newcomer", t.conn.RemoteAddr())
			return duplicate(t.gateway)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for _, old := range incumbents {
			e.remove(old, &closeError{code: codeSuperseded, reason: "a newer process of the gateway took its place"})
			old.close(codeSuperseded, "a newer process of this gateway took its place")
		}
	}
}

func duplicate(gw mesh.GatewayID) error {
	return &closeError{code: codeDuplicate, reason: fmt.Sprintf("another live gateway is called %s: give each its own name and certificate", gw)}
}

// tryAdmit admits t unless tunnels of another instance are in the way, which it
// returns then.
func (e *Endpoint) tryAdmit(t *tunnel) (incumbents []*tunnel, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing {
		return nil, &closeError{code: codeStopped, reason: "the gateway stops"}
	}
	if e.draining {
		return nil, &closeError{code: codeLeaving, reason: "the gateway leaves"}
	}
	p := e.peerLocked(t.gateway)
	own := 0
	for _, other := range p.tunnels {
		if other.instance != t.instance {
			incumbents = append(incumbents, other)
		}
		if other.dialled && !other.leaving.Load() && !other.renewable(time.Now()) {
			own++
		}
	}
	switch {
	case len(incumbents) > 0:
		return incumbents, nil
	case len(p.tunnels) >= connectionsMost, t.dialled && own >= e.connections():
		return nil, &closeError{code: codeSurplus, reason: "there are enough connections already"}
	}
	p.tunnels = append(p.tunnels, t)
	p.left, p.lastErr, p.addr = false, "", t.conn.RemoteAddr().String()
	if p.refreshLocked(time.Now()) {
		e.log.Info("tunnel up", "peer", t.gateway, "addr", p.addr, "dialled", t.dialled)
	}
	for _, target := range e.targets {
		if !t.dialled && target.reaches(t.gateway) {
			target.retry()
		}
	}
	e.changedLocked()
	return nil, nil
}

// alive asks tunnels for a sign of life and reports whether one gave it.
func alive(ctx context.Context, incumbents []*tunnel) bool {
	before := make([]uint64, len(incumbents))
	wait := probeWait
	for i, t := range incumbents {
		stats := t.conn.ConnectionStats()
		before[i] = stats.PacketsReceived
		wait = max(wait, probeRTTs*stats.SmoothedRTT)
		t.beat()
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
		for i, t := range incumbents {
			if t.conn.Context().Err() != nil {
				dead++
			} else if t.conn.ConnectionStats().PacketsReceived > before[i] {
				return true
			}
		}
		if dead == len(incumbents) || time.Now().After(deadline) {
			return false
		}
	}
}
