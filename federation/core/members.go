package core

import (
	"cmp"
	"log/slog"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Meta is what gossip carries about a gateway. Nothing of it is proved: it says
// where to look, never what to route.
type Meta struct {
	Leaving   bool
	Version   catalog.Version
	Digest    catalog.Digest
	Advertise string
}

// Gossip is what gossip says of another gateway.
type Gossip struct {
	Gateway mesh.GatewayID
	Alive   bool
	Known   bool // Meta could be read
	Meta    Meta
}

// member is what gossip says of another gateway.
type member struct {
	alive     bool
	known     bool // meta could be read
	meta      Meta
	since     time.Time // when alive last became true
	redial    bool      // since then it was not dialled anew
	redialled time.Time // when it was, or needed not be
}

type members map[mesh.GatewayID]*member

func (ms members) alive(id mesh.GatewayID) bool {
	m := ms[id]
	return m != nil && m.alive
}

// redials returns the gateways to dial without waiting out the backoff, because gossip
// says that they are alive and no tunnel leads to them. One that has come back is
// dialled at once: after a partition the first pair to meet tells the others. One that
// others keep alive while the way from here is broken is dialled every redialInterval,
// so that the two meet soon after the way is whole; of too many, who has waited longest.
func (c *Core) redials(now time.Time) []mesh.GatewayID {
	var back, waiting []mesh.GatewayID
	for id, m := range c.members {
		switch {
		case !m.alive || c.peers.up(id):
			m.redialled = now
		case m.redial && c.peers[id] != nil:
			back = append(back, id)
		case now.Sub(m.redialled) >= redialInterval:
			waiting = append(waiting, id)
		}
		m.redial = false
	}
	if now.Sub(c.redialled) >= redialPause {
		slices.SortFunc(waiting, func(a, b mesh.GatewayID) int {
			return cmp.Or(c.members[a].redialled.Compare(c.members[b].redialled), a.Compare(b))
		})
		waiting = waiting[:min(len(waiting), maxRedials)]
		if len(waiting) > 0 {
			c.redialled = now
		}
		back = append(back, waiting...)
	}
	for _, id := range back {
		c.members[id].redialled = now
	}
	return sortIDs(back)
}

func (in Gossip) apply(c *Core, now time.Time) {
	id := in.Gateway
	m := c.members[id]
	if m == nil {
		if !in.Alive {
			return // forgotten before
		}
		m = &member{}
		c.members[id] = m
		c.viewChanged = true
	}
	if in.Alive && !m.alive {
		m.since, m.redial, m.redialled = now, true, now
	}
	if in.Alive != m.alive {
		c.note(slog.LevelInfo, "gossip", "gateway", id.String(), "alive", in.Alive, "leaving", in.Meta.Leaving)
	}
	if in.Alive != m.alive || in.Known != m.known || in.Meta.Advertise != m.meta.Advertise {
		c.viewChanged = true
	}
	m.alive, m.known, m.meta = in.Alive, in.Known, in.Meta
	if !in.Alive || !in.Known {
		return
	}
	if k := c.known[id]; in.Meta.Advertise != "" && k.Advertise != in.Meta.Advertise {
		k.Advertise, k.Seen = in.Meta.Advertise, now
		c.keepKnown(id, k)
	}
	c.hear(catalog.Head{Origin: id, Version: in.Meta.Version, Digest: in.Meta.Digest}, id, now)
}

// HasRoomFor reports whether gossip may tell of the gateway.
func (c *Core) HasRoomFor(id mesh.GatewayID) bool {
	return c.members[id] != nil || len(c.members) < MaxGateways
}

// MustJoin reports whether gossip has lost or not yet found the gateway.
// memberlist does not look for the dead by itself for long, so tunnels, which do,
// tell it.
func (c *Core) MustJoin(id mesh.GatewayID) bool {
	m := c.members[id]
	return m == nil || !m.alive && !m.meta.Leaving
}

// present reports whether the gateway is there, by gossip or by tunnel.
func (c *Core) present(id mesh.GatewayID) bool {
	return c.members.alive(id) || c.peers.up(id)
}

// KnownGateway is where a gateway was last seen.
type KnownGateway struct {
	Advertise   string            `json:"advertise"`    // as gossip said
	MeshAddress string            `json:"mesh_address"` // as it said itself, over a tunnel
	Seen        time.Time         `json:"seen"`
	Founding    identity.Founding `json:"founding,omitzero"` // of its cluster, as its certificate said
}

func (c *Core) keepKnown(id mesh.GatewayID, k KnownGateway) {
	c.known[id] = k
	c.unsaved.gateways[id], c.viewChanged = true, true
}
