package federation

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// buildViewLocked makes a view of the present state.
func (f *Federation) buildViewLocked() *View {
	var gateways []Gateway
	var origins []Origin
	known := map[mesh.GatewayID]*Gateway{}
	at := func(id mesh.GatewayID) *Gateway {
		g := known[id]
		if g == nil {
			g = &Gateway{ID: id}
			known[id] = g
		}
		return g
	}
	*at(f.cfg.Self) = Gateway{ID: f.cfg.Self, Advertise: f.cfg.Advertise, MeshAddress: f.cfg.MeshAddress, Alive: true}
	for id, r := range f.remembered {
		g := at(id)
		g.Advertise, g.MeshAddress = r.Advertise, r.MeshAddress
	}
	for id, m := range f.members {
		g := at(id)
		g.Alive = m.alive
		if m.known {
			g.Advertise = m.meta.Advertise
		}
	}
	for id, o := range f.origins {
		if o.state != nil {
			at(id)
			origins = append(origins, Origin{ID: id, Version: o.state.Head().Version, Digest: o.state.Head().Digest,
				Stale: o.stale, Confirmed: o.confirmed, Records: o.exports})
		}
	}
	for id, p := range f.peers {
		if known[id] == nil && p.State != tunnel.Up {
			continue // it has left
		}
		at(id).Tunnel = Tunnel{Up: p.State == tunnel.Up, RTT: p.RTT, Connections: p.Connections, Streams: p.Streams, Since: p.Since, LastError: p.LastError}
	}
	if f.own.Head().Version.Seq > 0 {
		origins = append(origins, Origin{ID: f.cfg.Self, Version: f.own.Head().Version, Digest: f.own.Head().Digest, Records: f.own.Exports()})
	}
	for _, g := range known {
		gateways = append(gateways, *g)
	}
	slices.SortFunc(gateways, func(a, b Gateway) int { return compareID(a.ID, b.ID) })
	slices.SortFunc(origins, func(a, b Origin) int { return compareID(a.ID, b.ID) })
	return NewView(f.cfg.Self, gateways, origins)
}
