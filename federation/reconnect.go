package federation

import (
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// mustJoinLocked reports whether gossip has lost or not yet found the gateway.
// memberlist does not look for the dead by itself for longer than
// gossipToTheDead, so tunnels, which do, tell it.
func (f *Federation) mustJoinLocked(id mesh.GatewayID) bool {
	m := f.members[id]
	return m == nil || !m.alive && !m.meta.Leaving
}

// hurryLocked returns the gateways that gossip has found alive again and that no
// tunnel leads to: after a partition the first pair to meet tells the others, who
// need not wait out their own backoff.
func (f *Federation) hurryLocked() []mesh.GatewayID {
	var hurry []mesh.GatewayID
	for id, m := range f.members {
		if !m.hurry {
			continue
		}
		m.hurry = false
		if p := f.peers[id]; p != nil && p.State != tunnel.Up {
			hurry = append(hurry, id)
		}
	}
	return hurry
}

// targetsLocked returns every address to keep a tunnel to: the configured ones,
// where any gateway may answer, and where each known gateway was last seen.
func (f *Federation) targetsLocked() []tunnel.Target {
	used := make(map[string]bool)
	var targets []tunnel.Target
	for _, a := range f.cfg.Join {
		if a != "" && a != f.cfg.Advertise && !used[a] {
			used[a] = true
			targets = append(targets, tunnel.Target{Addr: a})
		}
	}
	type seen struct {
		target tunnel.Target
		alive  bool
		at     time.Time
	}
	var all []seen
	for id, r := range f.remembered {
		m := f.members[id]
		all = append(all, seen{tunnel.Target{Addr: r.Advertise, Gateway: id}, m != nil && m.alive, r.Seen})
	}
	// Of two gateways seen at one address the present one is dialled.
	slices.SortFunc(all, func(a, b seen) int {
		if a.alive != b.alive {
			if a.alive {
				return -1
			}
			return 1
		}
		return cmp.Or(b.at.Compare(a.at), compareID(a.target.Gateway, b.target.Gateway))
	})
	for _, s := range all {
		if a := s.target.Addr; a != "" && a != f.cfg.Advertise && !used[a] {
			used[a] = true
			targets = append(targets, s.target)
		}
	}
	slices.SortFunc(targets, func(a, b tunnel.Target) int { return cmp.Compare(a.Addr, b.Addr) })
	return targets
}

// watchTunnels keeps f.peers what the tunnel says.
func (f *Federation) watchTunnels(ctx context.Context) {
	for {
		peers, past := f.cfg.Tunnel.Peers()
		f.mu.Lock()
		for _, p := range peers {
			if p.Gateway == f.cfg.Self {
				continue
			}
			was := f.peers[p.Gateway]
			if was == nil {
				was = &peer{}
				f.peers[p.Gateway] = was
			}
			if p.State != was.State || !p.Since.Equal(was.Since) {
				// A new process, perhaps: it knows nothing of what the old one was told.
				was.synced, was.retry, was.rung, was.noted = time.Time{}, time.Time{}, nil, catalog.Version{}
				if o := f.origins[p.Gateway]; o != nil && p.State == tunnel.Up {
					o.failures, o.retry = 0, time.Time{} // now the origin itself can be asked
				}
				f.logPeer(&p)
			}
			was.Peer = p
		}
		gone := maps.Clone(f.peers)
		for _, p := range peers {
			delete(gone, p.Gateway)
		}
		for id := range gone {
			delete(f.peers, id)
		}
		f.viewDirty = true
		f.mu.Unlock()
		kick(f.stepKick)
		select {
		case <-ctx.Done():
			return
		case <-past:
		}
	}
}

func (f *Federation) logPeer(p *tunnel.Peer) {
	if p.State == tunnel.Up {
		f.log.Info("gateway is connected", "peer", p.Gateway.String(), "addr", p.Addr)
		return
	}
	f.log.Info("gateway is out of reach", "peer", p.Gateway.String(), "left", p.Left, "err", p.LastError)
}

// backoff returns how long to wait after so many failures in a row: doubling,
// and spread so that many do not come back at once.
func backoff(failures int) time.Duration {
	d := min(retryMin<<min(failures-1, 10), retryMax)
	return d/2 + rand.N(d/2+1)
}
