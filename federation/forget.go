package federation

import (
	"maps"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// forgetLocked drops gateways that have left and what is older than anybody
// should ask for.
func (f *Federation) forgetLocked(now time.Time) {
	left := func(id mesh.GatewayID) bool {
		m, p := f.members[id], f.peers[id]
		if p != nil && p.State == tunnel.Up {
			return false
		}
		if m != nil && !m.alive && m.meta.Leaving {
			return true
		}
		// It said so when it closed the tunnel, and has not joined since.
		return p != nil && p.Left && (m == nil || !m.alive || m.since.Before(p.Since))
	}
	for _, id := range f.knownLocked() {
		if left(id) {
			f.log.Info("gateway has left", "peer", id.String())
			f.dropLocked(id)
		}
	}
	for id, o := range f.origins {
		if o.state != nil && o.stale && now.Sub(o.confirmed) > staleAfter {
			f.log.Warn("catalog forgotten: its gateway was out of reach for too long", "peer", id.String(), "age", now.Sub(o.confirmed))
			o.state, o.exports = nil, nil
			f.dirty.origins[id], f.viewDirty = true, true
		}
		if o.state == nil && now.Sub(o.confirmed) > floorAfter {
			delete(f.origins, id)
			f.dirty.origins[id] = true
		}
	}
	for id, r := range f.remembered {
		m, p := f.members[id], f.peers[id]
		if m != nil && m.alive || p != nil && p.State == tunnel.Up {
			if now.Sub(r.Seen) > confirmInterval {
				r.Seen = now
				f.remembered[id] = r
				f.dirty.gateways[id] = true
			}
		} else if now.Sub(r.Seen) > staleAfter {
			delete(f.remembered, id)
			f.dirty.gateways[id], f.viewDirty = true, true
		}
	}
	if len(f.dirty.origins)+len(f.dirty.gateways) > 0 {
		kick(f.storeKick)
	}
}

// knownLocked returns the gateways of which anything but a floor is held.
func (f *Federation) knownLocked() []mesh.GatewayID {
	ids := make(map[mesh.GatewayID]bool, len(f.members))
	for id, o := range f.origins {
		if o.state != nil {
			ids[id] = true
		}
	}
	for id := range f.members {
		ids[id] = true
	}
	for id := range f.remembered {
		ids[id] = true
	}
	return slices.Collect(maps.Keys(ids))
}

// dropLocked forgets a gateway, but for the version that its records must exceed.
func (f *Federation) dropLocked(id mesh.GatewayID) {
	now := time.Now()
	if o := f.origins[id]; o != nil {
		o.state, o.exports, o.announced, o.confirmed = nil, nil, catalog.Head{}, now
		f.dirty.origins[id] = true
	}
	delete(f.members, id)
	delete(f.remembered, id)
	f.dirty.gateways[id], f.viewDirty = true, true
}

// confirmLocked says of every catalog whether it is up to date.
func (f *Federation) confirmLocked(now time.Time) {
	for id, o := range f.origins {
		m, p := f.members[id], f.peers[id]
		reachable := m != nil && m.alive || p != nil && p.State == tunnel.Up
		stale := !reachable || o.state == nil || o.announced.Compare(o.state.Head()) > 0
		if stale == o.stale {
			continue
		}
		o.stale, f.viewDirty = stale, true
		if stale {
			o.confirmed = now
			f.dirty.confirm = true
		}
	}
	if now.Sub(f.confirmed) >= confirmInterval || f.dirty.confirm {
		f.confirmed, f.dirty.confirm = now, true
		kick(f.storeKick)
	}
}
