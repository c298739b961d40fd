package core

import (
	"maps"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// unsaved names what the state file does not hold yet.
type unsaved struct {
	epoch       bool
	origins     map[mesh.GatewayID]bool
	gateways    map[mesh.GatewayID]bool
	confirmed   bool
	confirmedAt time.Time // when confirmed was last set
}

func newUnsaved() unsaved {
	return unsaved{origins: make(map[mesh.GatewayID]bool), gateways: make(map[mesh.GatewayID]bool)}
}

func (u *unsaved) empty() bool {
	return len(u.origins)+len(u.gateways) == 0 && !u.confirmed && !u.epoch
}

// SavedOrigin is what outlives the process of one origin's catalog.
type SavedOrigin struct {
	Floor     catalog.Version
	State     *catalog.State // nil: it has left or was forgotten
	Signature identity.Signature
	Signer    identity.Peer
	Exports   []mesh.Export // of State, as Judge has them; when it is restored
	LeftOut   []LeftOut     // likewise
}

// Changes are what the state file has to be told. A nil entry is to be deleted.
type Changes struct {
	Epoch     uint64 // of the own catalog; 0: unchanged
	Origins   map[mesh.GatewayID]*SavedOrigin
	Confirmed map[mesh.GatewayID]time.Time // when a catalog was last known to be up to date
	Gateways  map[mesh.GatewayID]*KnownGateway
}

// Unsaved returns what the state file does not hold yet, once; [NotSaved] takes it
// back.
func (c *Core) Unsaved(now time.Time) *Changes {
	u := c.unsaved
	c.unsaved = newUnsaved()
	c.unsaved.confirmedAt = u.confirmedAt
	ch := &Changes{
		Origins:   make(map[mesh.GatewayID]*SavedOrigin, len(u.origins)),
		Confirmed: make(map[mesh.GatewayID]time.Time),
		Gateways:  make(map[mesh.GatewayID]*KnownGateway, len(u.gateways)),
	}
	if u.epoch {
		ch.Epoch = c.own.State.Head().Version.Epoch
	}
	for id := range u.origins {
		ch.Origins[id] = nil
		if o := c.origins[id]; o != nil {
			ch.Origins[id] = &SavedOrigin{Floor: o.floor, State: o.state, Signature: o.signature, Signer: o.signer}
		}
	}
	for id, o := range c.origins {
		if !u.confirmed && !u.origins[id] {
			continue
		}
		ch.Confirmed[id] = o.confirmed
		if !o.stale || c.gateways.peers.up(id) {
			ch.Confirmed[id] = now
		}
	}
	for id := range u.gateways {
		ch.Gateways[id] = nil
		if k, ok := c.gateways.known[id]; ok {
			ch.Gateways[id] = &k
		}
	}
	return ch
}

// NotSaved gives back what could not be written.
type NotSaved struct{ *Changes }

func (in NotSaved) apply(c *Core, _ time.Time) {
	c.unsaved.epoch = c.unsaved.epoch || in.Epoch != 0
	for id := range in.Origins {
		c.unsaved.origins[id] = true
	}
	for id := range in.Gateways {
		c.unsaved.gateways[id] = true
	}
	c.unsaved.confirmed = c.unsaved.confirmed || len(in.Confirmed) > 0
}

// StateLost says that the state file is a new one: all of it is to be saved again.
type StateLost struct{}

func (StateLost) apply(c *Core, _ time.Time) {
	c.unsaved.epoch, c.unsaved.confirmed = true, true
	for id := range c.origins {
		c.unsaved.origins[id] = true
	}
	for id := range c.gateways.known {
		c.unsaved.gateways[id] = true
	}
}

// Restored is what the state file held, and the epoch of this process. Signatures
// were verified when they came.
type Restored struct {
	Epoch     uint64
	Origins   map[mesh.GatewayID]SavedOrigin
	Confirmed map[mesh.GatewayID]time.Time
	Gateways  map[mesh.GatewayID]KnownGateway
}

// apply takes everything over. Catalogs are stale until somebody confirms them, and
// any gateway is awaited: also one that has left lately, to come back.
func (in Restored) apply(c *Core, now time.Time) {
	c.own = Own{State: catalog.New(c.cfg.Self, in.Epoch)}
	c.viewChanged = true
	remembers := false
	for _, id := range sortIDs(slices.Collect(maps.Keys(in.Origins))) {
		if id == c.cfg.Self || len(c.origins) >= MaxGateways {
			continue
		}
		s := in.Origins[id]
		o := &origin{floor: s.Floor, stale: true, confirmed: now, state: s.State, signature: s.Signature, signer: s.Signer, exports: s.Exports, leftOut: s.LeftOut}
		c.takeImports(id, o)
		o.announced = o.head()
		if at, ok := in.Confirmed[id]; ok && at.Before(now) {
			o.confirmed = at
		}
		c.origins[id] = o
		remembers = remembers || o.state != nil || now.Sub(o.confirmed) < leftLately
	}
	for _, id := range sortIDs(slices.Collect(maps.Keys(in.Gateways))) {
		if id != c.cfg.Self && len(c.gateways.known) < MaxGateways {
			c.gateways.known[id] = in.Gateways[id]
			remembers = true
		}
	}
	if remembers {
		c.awaiting = now.Add(awaitFor)
	}
}
