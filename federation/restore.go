package federation

import (
	"context"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// restoreLocked takes over what the state file held. Catalogs are stale until
// somebody confirms them. Their signatures were verified when they came.
func (f *Federation) restoreLocked(was *saved) {
	now := time.Now()
	for id, s := range was.Origins {
		if id == f.cfg.Self || len(f.origins) >= maxGateways {
			continue
		}
		o := &origin{floor: s.Floor, stale: true, confirmed: now}
		if at, ok := was.Confirmed[id]; ok && at.Before(now) {
			o.confirmed = at
		}
		if s.Delta != nil {
			state, err := (*catalog.State)(nil).Apply(s.Delta)
			if err != nil {
				f.log.Warn("catalog of the state file left out", "peer", id.String(), "err", err)
			} else {
				o.state, o.sig, o.exports, o.announced = state, s.Signature, state.Exports(), state.Head()
			}
		}
		f.origins[id] = o
	}
	for id, g := range was.Gateways {
		if id != f.cfg.Self && len(f.remembered) < maxGateways {
			f.remembered[id] = g
		}
	}
	f.ring = was.Keys
	if len(f.ring) == 0 {
		// The first gateway makes the key of the mesh; who joins one makes a key
		// that gives way to it.
		var created int64
		if !slices.ContainsFunc(f.cfg.Join, func(a string) bool { return a != "" && a != f.cfg.Advertise }) {
			created = now.UnixMilli()
		}
		f.ring = keyring{newKey(created)}
		f.dirty.keys = true
		kick(f.storeKick)
	}
	f.primary, f.ringSince = f.ring[0], now
}

// storeLoop writes what changed, at most once per storeInterval.
func (f *Federation) storeLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.storeKick:
		}
		f.flush()
		select {
		case <-ctx.Done():
			return
		case <-time.After(storeInterval):
		}
	}
}

// flush writes what changed to the state file.
func (f *Federation) flush() {
	f.mu.Lock()
	d := f.dirty
	f.dirty.reset()
	c := &changes{Origins: make(map[mesh.GatewayID]*savedOrigin), Confirmed: make(map[mesh.GatewayID]time.Time), Gateways: make(map[mesh.GatewayID]*savedGateway)}
	if d.keys {
		c.Keys = f.ring
	}
	states := make(map[mesh.GatewayID]*catalog.State)
	for id := range d.origins {
		o := f.origins[id]
		if o == nil {
			c.Origins[id] = nil
			continue
		}
		c.Origins[id] = &savedOrigin{Floor: o.floor, Signature: o.sig}
		states[id] = o.state
	}
	for id, o := range f.origins {
		if d.confirm || d.origins[id] {
			c.Confirmed[id] = o.confirmed
			if p := f.peers[id]; !o.stale || p != nil && p.State == tunnel.Up {
				c.Confirmed[id] = time.Now()
			}
		}
	}
	for id := range d.gateways {
		if g, ok := f.remembered[id]; ok {
			c.Gateways[id] = &g
		} else {
			c.Gateways[id] = nil
		}
	}
	st := f.store
	f.mu.Unlock()
	for id, s := range states {
		if s != nil {
			c.Origins[id].Delta = s.Whole()
		}
	}
	if err := st.save(c); err != nil {
		f.log.Error("state is not kept: a restart will know less", "err", err)
	}
}
