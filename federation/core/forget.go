package core

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// forget drops gateways that have left and what is older than anybody should ask
// for.
func (c *Core) forget(now time.Time) {
	for _, id := range c.everybody() {
		if c.gateways.hasLeft(id) {
			c.note(slog.LevelInfo, "gateway has left", "gateway", id.String())
			c.drop(id, now)
		}
	}
	for id, o := range c.origins {
		if o.state != nil && o.stale && now.Sub(o.confirmed) > staleAfter {
			c.note(slog.LevelWarn, "catalog forgotten: its gateway was out of reach for too long", "gateway", id.String(), "age", now.Sub(o.confirmed))
			o.state, o.exports, o.leftOut, o.taken = nil, nil, nil, nil
			c.unsaved.origins[id], c.viewChanged = true, true
		}
		if o.state == nil && now.Sub(o.confirmed) > floorAfter && o.pulling.IsZero() {
			delete(c.origins, id)
			c.unsaved.origins[id] = true
		}
	}
	for id, m := range c.gateways.members {
		if !m.alive && !c.gateways.proved(id) && now.Sub(m.died) > unprovedDeadFor {
			delete(c.gateways.members, id)
			c.viewChanged = true
		}
	}
	for id, k := range c.gateways.known {
		if c.gateways.present(id) {
			if now.Sub(k.Seen) > confirmInterval {
				k.Seen = now
				c.gateways.known[id] = k
				c.unsaved.gateways[id] = true
			}
		} else if now.Sub(k.Seen) > staleAfter {
			delete(c.gateways.known, id)
			delete(c.gateways.members, id) // dead, or it would be present
			c.forgotten = append(c.forgotten, id)
			c.unsaved.gateways[id], c.viewChanged = true, true
		}
	}
}

// everybody returns the gateways of which anything but a floor is held, sorted.
func (c *Core) everybody() []mesh.GatewayID {
	var ids []mesh.GatewayID
	for id, o := range c.origins {
		if o.state != nil {
			ids = append(ids, id)
		}
	}
	for id := range c.gateways.members {
		ids = append(ids, id)
	}
	for id := range c.gateways.known {
		ids = append(ids, id)
	}
	return sortIDs(ids)
}

// drop forgets a gateway, but for the version that its records must exceed.
func (c *Core) drop(id mesh.GatewayID, now time.Time) {
	if o := c.origins[id]; o != nil {
		o.state, o.exports, o.leftOut, o.taken = nil, nil, nil, nil
		o.announced, o.confirmed = catalog.Head{}, now
		c.unsaved.origins[id] = true
	}
	delete(c.gateways.members, id)
	delete(c.gateways.known, id)
	c.forgotten = append(c.forgotten, id)
	c.unsaved.gateways[id], c.viewChanged = true, true
}

// confirm says of every catalog whether it is up to date.
func (c *Core) confirm(now time.Time) {
	for id, o := range c.origins {
		stale := !c.gateways.present(id) || o.state == nil || o.announced.Compare(o.state.Head()) > 0
		if stale == o.stale {
			continue
		}
		o.stale, c.viewChanged = stale, true
		if stale {
			o.confirmed = now
			c.unsaved.confirmed = true
		}
	}
	if now.Sub(c.unsaved.confirmedAt) >= confirmInterval || c.unsaved.confirmed {
		c.unsaved.confirmedAt, c.unsaved.confirmed = now, true
	}
}

// await ends the wait for those that the state file tells of: one of them, or another,
// says what it offers, and knows of more; or they have had their time.
func (c *Core) await(now time.Time) {
	met := func(o *origin) bool { return o.state != nil && !o.stale }
	if !c.awaiting.IsZero() && (!now.Before(c.awaiting) || slices.ContainsFunc(slices.Collect(maps.Values(c.origins)), met)) {
		c.awaiting, c.viewChanged = time.Time{}, true
	}
}

// Matching returns the other gateways of a cluster of which anything but a floor is
// held, or the one with a name, sorted.
func (c *Core) Matching(cluster mesh.ClusterName, name mesh.GatewayName) []mesh.GatewayID {
	return slices.DeleteFunc(c.everybody(), func(id mesh.GatewayID) bool {
		return id == c.cfg.Self || id.Cluster != cluster || name != "" && id.Name != name
	})
}

// Holds returns those of ids of which anything but a floor is held, and this gateway.
func (c *Core) Holds(ids []mesh.GatewayID) (held []mesh.GatewayID) {
	all := c.everybody()
	for _, id := range ids {
		_, known := slices.BinarySearchFunc(all, id, mesh.GatewayID.Compare)
		if known || id == c.cfg.Self {
			held = append(held, id)
		}
	}
	return slices.CompactFunc(sortIDs(held), func(a, b mesh.GatewayID) bool { return a == b })
}

// MayForget returns an error unless all of ids are out of reach: what is alive would
// be known again in a moment.
func (c *Core) MayForget(ids []mesh.GatewayID) error {
	for _, id := range ids {
		switch {
		case id == c.cfg.Self:
			return fmt.Errorf("%s is this gateway itself", id)
		case c.gateways.peers.up(id):
			return fmt.Errorf("%s is alive: %s has a tunnel to it; stop it first", id, c.cfg.Self)
		case c.gateways.members.alive(id):
			return fmt.Errorf("%s is alive, as other gateways tell %s; stop it first, or wait some seconds if it has just stopped", id, c.cfg.Self)
		}
	}
	return nil
}

// Distrusted says that the signers of gateways' catalogs are trusted no more: what is held
// of these gateways is dropped, whether they are alive or not, but for the versions that
// their records must exceed, and that gossip calls them alive.
type Distrusted struct{ Gateways []mesh.GatewayID }

func (in Distrusted) apply(c *Core, now time.Time) {
	for _, id := range in.Gateways {
		m := c.gateways.members[id]
		c.drop(id, now)
		if m != nil && m.alive {
			c.gateways.members[id] = m // gossip says what has changed, and nothing has
		}
		if o := c.origins[id]; o != nil && o.floor.Seq > 0 {
			o.floor.Seq-- // it may come again as it was, if it is trusted again
		}
	}
}

// Forget says that gateways are gone for good: what is held of them, but for the
// versions that their records must exceed, is dropped. Those that are alive are kept.
type Forget struct{ Gateways []mesh.GatewayID }

func (in Forget) apply(c *Core, now time.Time) {
	for _, id := range in.Gateways {
		if c.MayForget([]mesh.GatewayID{id}) == nil {
			c.drop(id, now)
		}
	}
}
