package core

import (
	"cmp"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// gateways are the other gateways: what gossip, the tunnels and they themselves say, and
// what follows from that alone.
type gateways struct {
	members   members
	peers     peers
	known     map[mesh.GatewayID]KnownGateway // by address, present or not
	redialled time.Time                       // when any were last dialled that are alive and not reached
}

// KnownGateway is where a gateway was last seen that has proved who it is.
type KnownGateway struct {
	Advertise   string            `json:"advertise"`    // as it said itself, over a tunnel, or gossip before that
	MeshAddress string            `json:"mesh_address"` // as it said itself, over a tunnel
	Seen        time.Time         `json:"seen"`
	Founding    identity.Founding `json:"founding,omitzero"` // of its cluster, as its certificate said
}

// present reports whether the gateway is there, by gossip or by tunnel.
func (g *gateways) present(id mesh.GatewayID) bool {
	return g.members.alive(id) || g.peers.up(id)
}

// proved reports whether the gateway has shown its certificate, and is not forgotten:
// it was or is at the other end of a tunnel.
func (g *gateways) proved(id mesh.GatewayID) bool {
	_, known := g.known[id]
	return known || g.peers.up(id)
}

// hasLeft reports whether the gateway said that it leaves, over its own tunnel, and is gone.
func (g *gateways) hasLeft(id mesh.GatewayID) bool {
	m, p := g.members[id], g.peers[id]
	if g.peers.up(id) {
		return false
	}
	// It has not joined since.
	return p != nil && p.Left && (m == nil || !m.alive || m.since.Before(p.Since))
}

// redials returns the gateways to dial without waiting out the backoff, because gossip
// says that they are alive and no tunnel leads to them. One that has come back is
// dialled at once: after a partition the first pair to meet tells the others. One that
// others keep alive while the way from here is broken is dialled every redialInterval,
// so that the two meet soon after the way is whole; of too many, who has waited longest.
func (g *gateways) redials(now time.Time) []mesh.GatewayID {
	var back, waiting []mesh.GatewayID
	for id, m := range g.members {
		switch {
		case !m.alive || g.peers.up(id):
			m.redialled = now
		case !g.proved(id): // its address is dialled while it has a place
		case m.redial && g.peers[id] != nil && now.Sub(m.dialled) >= redialPause:
			back = append(back, id)
			m.dialled = now
		case now.Sub(m.redialled) >= redialInterval:
			waiting = append(waiting, id)
		}
		m.redial = false
	}
	if now.Sub(g.redialled) >= redialPause {
		slices.SortFunc(waiting, func(a, b mesh.GatewayID) int {
			return cmp.Or(g.members[a].redialled.Compare(g.members[b].redialled), a.Compare(b))
		})
		waiting = waiting[:min(len(waiting), maxRedials)]
		if len(waiting) > 0 {
			g.redialled = now
		}
		back = append(back, waiting...)
	}
	for _, id := range back {
		g.members[id].redialled = now
	}
	return sortIDs(back)
}

// hints returns the members to dial where gossip says that they are, because no tunnel
// leads to them and they have not said it themselves, or are there no more. Who gossips
// such a thing may lie, so there are few places, and they change hands.
func (g *gateways) hints(now time.Time) []mesh.GatewayID {
	var waiting []mesh.GatewayID
	for id, m := range g.members {
		if m.alive && m.meta.Advertise != "" && !g.peers.up(id) && g.known[id].Advertise != m.meta.Advertise {
			waiting = append(waiting, id)
		} else {
			m.place = false
		}
	}
	keeps := func(m *member) int {
		if m.place && now.Sub(m.placed) < hintTurn {
			return 0
		}
		return 1
	}
	slices.SortFunc(waiting, func(a, b mesh.GatewayID) int {
		x, y := g.members[a], g.members[b]
		return cmp.Or(cmp.Compare(keeps(x), keeps(y)), x.placed.Compare(y.placed), a.Compare(b))
	})
	var hints []mesh.GatewayID
	cluster := map[mesh.ClusterName]int{}
	for _, id := range waiting {
		m := g.members[id]
		if len(hints) >= maxHints || cluster[id.Cluster] >= maxClusterHints {
			m.place = false
			continue
		}
		if keeps(m) != 0 {
			m.place, m.placed = true, now
		}
		cluster[id.Cluster]++
		hints = append(hints, id)
	}
	return hints
}
