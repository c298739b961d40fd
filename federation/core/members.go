package core

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Meta is what gossip carries about a gateway. Nothing of it is proved: it says
// where to look, never what to route.
type Meta struct {
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
	died      time.Time // when it last became false
	redial    bool      // since it became true it was not dialled anew
	redialled time.Time // when it was, or needed not be
	dialled   time.Time // when it last was because it became true
	place     bool      // its address is one of the hints that are dialled
	placed    time.Time // since when, or when it last was; zero: never
}

type members map[mesh.GatewayID]*member

func (ms members) alive(id mesh.GatewayID) bool {
	m := ms[id]
	return m != nil && m.alive
}

func (in Gossip) apply(c *Core, now time.Time) {
	id := in.Gateway
	m := c.gateways.members[id]
	if m == nil {
		if !in.Alive {
			return // forgotten before
		}
		if c.HasRoomFor(id) != nil {
			return
		}
		m = &member{}
		c.gateways.members[id] = m
		c.viewChanged = true
	}
	if in.Alive && !m.alive {
		m.since, m.redial, m.redialled = now, true, now
	}
	if !in.Alive && m.alive {
		m.died = now
		if c.gateways.peers.up(id) {
			c.doubted = append(c.doubted, id)
		}
	}
	if in.Alive != m.alive {
		c.note(slog.LevelInfo, "gossip", "gateway", id.String(), "alive", in.Alive)
	}
	if in.Alive != m.alive || in.Known != m.known || in.Meta.Advertise != m.meta.Advertise {
		c.viewChanged = true
	}
	m.alive, m.known, m.meta = in.Alive, in.Known, in.Meta
	if in.Alive && in.Known && c.gateways.proved(id) { // of others those say it that hold what they offer
		c.rememberHint(id, now)
		c.hear(catalog.Head{Origin: id, Version: in.Meta.Version, Digest: in.Meta.Digest}, id, now)
	}
}

// Announced is what a gateway says of itself, over its own tunnel.
type Announced struct {
	Gateway mesh.GatewayID
	Meta    Meta
}

func (in Announced) apply(c *Core, now time.Time) {
	if c.gateways.proved(in.Gateway) { // or its tunnel is not known here yet: it is asked then
		c.hear(catalog.Head{Origin: in.Gateway, Version: in.Meta.Version, Digest: in.Meta.Digest}, in.Gateway, now)
	}
}

// rememberHint has a gateway that has not said yet where it is, although a tunnel leads
// to it, remembered where gossip says.
func (c *Core) rememberHint(id mesh.GatewayID, now time.Time) {
	m, p := c.gateways.members[id], c.gateways.peers[id]
	if k, ok := c.gateways.known[id]; ok && k.Advertise == "" && m != nil && m.meta.Advertise != "" && p != nil && p.synced.IsZero() {
		k.Advertise, k.Seen = m.meta.Advertise, now
		c.keepKnown(id, k)
	}
}

// HasRoomFor returns an error unless gossip may tell of the gateway. Names cost nothing
// to make up, so there is little room for those that are not proved.
func (c *Core) HasRoomFor(id mesh.GatewayID) error {
	switch {
	case c.gateways.members[id] != nil:
		return nil
	case len(c.gateways.members) >= MaxGateways:
		return fmt.Errorf("more than %d gateways", MaxGateways)
	case c.gateways.proved(id):
		return nil
	}
	all, cluster := 0, 0
	for other := range c.gateways.members {
		if !c.gateways.proved(other) {
			all++
			if other.Cluster == id.Cluster {
				cluster++
			}
		}
	}
	if all >= maxUnproved || cluster >= maxClusterUnproved {
		return fmt.Errorf("%d gateways that nobody here has met, %d of its cluster", all, cluster)
	}
	return nil
}

// MustJoin reports whether gossip has lost or not yet found the gateway.
// memberlist does not look for the dead by itself for long, so tunnels, which do,
// tell it: after a while, in which a gateway that leaves closes its tunnel.
func (c *Core) MustJoin(id mesh.GatewayID, now time.Time) bool {
	m := c.gateways.members[id]
	return m == nil || !m.alive && now.Sub(m.died) >= rejoinAfter
}

// keepKnown keeps where a gateway is. A cluster has room for so many gateways: whoever
// holds its key can make up more, and one that is out of reach makes room.
func (c *Core) keepKnown(id mesh.GatewayID, k KnownGateway) {
	if _, ok := c.gateways.known[id]; !ok {
		var longest mesh.GatewayID // out of reach
		n := 0
		for other, was := range c.gateways.known {
			if other.Cluster != id.Cluster {
				continue
			}
			n++
			if !c.gateways.present(other) && (longest.IsZero() || was.Seen.Before(c.gateways.known[longest].Seen)) {
				longest = other
			}
		}
		if n >= maxClusterGateways || len(c.gateways.known) >= MaxGateways {
			if longest.IsZero() {
				return
			}
			delete(c.gateways.known, longest)
			c.unsaved.gateways[longest] = true
		}
	}
	c.gateways.known[id] = k
	c.unsaved.gateways[id], c.viewChanged = true, true
}
