package core

import (
	"maps"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// View is what this gateway knows of the mesh at one moment. It never changes:
// a newer one replaces it. Times in it say when
// something began, so that a View does not age while nothing happens.
type View struct {
	Self     mesh.GatewayID
	Gateways []Gateway // every gateway known, this one included, sorted by ID
	Origins  []Origin  // every catalog held, this gateway's included, sorted by ID
	// Awaiting: the state file told of other gateways, and none has said what it offers
	// since this one started. There may be more than is known, for some minutes.
	Awaiting bool

	exports  map[mesh.ServiceName][]ClusterExport
	services []mesh.ServiceName
}

// Gateway is what is known of one gateway.
type Gateway struct {
	ID          mesh.GatewayID
	Advertise   string // what other clusters dial, host:port, as it says itself, else as gossip does; empty when never heard
	MeshAddress string // what its own cluster's sidecars dial, host:port; empty until it has said so over a tunnel
	Alive       bool   // gossip says so; only the tunnel decides what is routed
	Hearsay     bool   // only gossip says that it exists: no tunnel has led to it yet
	Tunnel      Tunnel // zero for this gateway itself
	// Refused says why nothing is sent to it: its cluster has the name of an earlier
	// one. What it exports does not count. Of this gateway itself it is what the others do.
	Refused string
}

// Tunnel is the state of the tunnel to a gateway. What changes all the time, such
// as its round-trip time, is asked of the tunnel: a View is made anew for every
// change of what is in it, and all routes after it.
type Tunnel struct {
	Up    bool
	Since time.Time // of the present state
}

// Origin is the catalog of one gateway, as far as this one holds it.
type Origin struct {
	ID      mesh.GatewayID
	Version catalog.Version // epoch and sequence number of what is held
	Digest  catalog.Digest
	// Stale: the origin is out of reach, or has announced a version that is not
	// here yet. Confirmed is when it was last known to be up to date.
	Stale     bool
	Confirmed time.Time
	Founding  identity.Founding // of its cluster, by the certificate that signed
	// Signer is who signed, and what its cluster's certificate names.
	Signer  identity.Peer
	Records []mesh.Export // what counts here, sorted by service
	// LeftOut is what its cluster may not offer, so that it counts nowhere; at most maxLeftOut
	// of LeftOutTotal are listed. NotImported is how much else this gateway does not take.
	LeftOut                   []LeftOut
	LeftOutTotal, NotImported int
}

// Age returns for how long the catalog has not been known to be up to date:
// 0 while it is.
func (o *Origin) Age(now time.Time) time.Duration {
	if !o.Stale {
		return 0
	}
	return max(now.Sub(o.Confirmed), 0)
}

// ClusterExport is what one other cluster offers of a service.
type ClusterExport struct {
	Cluster mesh.ClusterName
	// Export is the union of what the cluster's reachable gateways say: of each
	// port the highest counts and all identities. When none is reachable it is
	// the last word of all of them, to be shown and never to be routed on.
	Export mesh.Export
	// Gateways are those of the cluster with a live tunnel that export the service,
	// sorted. Empty: the cluster cannot be reached now.
	Gateways []mesh.GatewayID
	// Founding is the cluster's; zero: not known.
	Founding identity.Founding
}

// NewView returns the view of gateway self that knows gateways and origins, both
// sorted by ID. It keeps them.
func NewView(self mesh.GatewayID, gateways []Gateway, origins []Origin) *View {
	v := &View{Self: self, Gateways: gateways, Origins: origins}
	v.index()
	return v
}

// Met reports whether any other gateway's catalog is held, be it from what was kept
// on disk. Who has met nobody does not know what other clusters offer.
func (v *View) Met() bool {
	return slices.ContainsFunc(v.Origins, func(o Origin) bool { return o.ID != v.Self })
}

// Refused says why the others send nothing to this gateway; empty: they do.
func (v *View) Refused() string {
	for i := range v.Gateways {
		if v.Gateways[i].ID == v.Self {
			return v.Gateways[i].Refused
		}
	}
	return ""
}

// Exports returns what every other cluster offers of the service, sorted by
// cluster. The caller must not change it.
func (v *View) Exports(s mesh.ServiceName) []ClusterExport { return v.exports[s] }

// Services returns the names that any other cluster exports, sorted. The caller
// must not change it.
func (v *View) Services() []mesh.ServiceName { return v.services }

// LocalGateways returns the gateways of this gateway's own cluster that can be
// told to sidecars: itself, and those that gossip or a live tunnel says are there. While
// there is no tunnel to anybody it is this gateway that is cut off, as far as it can
// know: then all are, who were there.
func (v *View) LocalGateways() []Gateway {
	cutOff := !slices.ContainsFunc(v.Gateways, func(g Gateway) bool { return g.Tunnel.Up })
	var local []Gateway
	for _, g := range v.Gateways {
		if g.ID.Cluster == v.Self.Cluster && (g.ID == v.Self || g.Refused == "" && (g.Alive || g.Tunnel.Up || cutOff)) {
			local = append(local, g)
		}
	}
	return local
}

// index fills what Exports and Services answer from. Gateways and Origins must
// be set and sorted.
func (v *View) index() {
	up, refused := make(map[mesh.GatewayID]bool, len(v.Gateways)), map[mesh.GatewayID]bool{}
	for _, g := range v.Gateways {
		up[g.ID] = g.Tunnel.Up
		if g.Refused != "" {
			refused[g.ID] = true
		}
	}
	offers := make(map[mesh.ServiceName]map[mesh.ClusterName][]offer)
	for i := range v.Origins {
		o := &v.Origins[i]
		if o.ID.Cluster == v.Self.Cluster || refused[o.ID] {
			continue
		}
		for j := range o.Records {
			e := &o.Records[j]
			byCluster := offers[e.Service]
			if byCluster == nil {
				byCluster = make(map[mesh.ClusterName][]offer)
				offers[e.Service] = byCluster
			}
			byCluster[o.ID.Cluster] = append(byCluster[o.ID.Cluster], offer{o.ID, o.Founding, e, up[o.ID]})
		}
	}
	v.exports = make(map[mesh.ServiceName][]ClusterExport, len(offers))
	v.services = slices.SortedFunc(maps.Keys(offers), mesh.ServiceName.Compare)
	for service, byCluster := range offers {
		clusters := make([]ClusterExport, 0, len(byCluster))
		for _, cluster := range slices.Sorted(maps.Keys(byCluster)) {
			clusters = append(clusters, join(cluster, service, byCluster[cluster]))
		}
		v.exports[service] = clusters
	}
}

// offer is what one gateway says of a service.
type offer struct {
	by       mesh.GatewayID
	founding identity.Founding
	export   *mesh.Export
	live     bool
}

// join makes one export of what the gateways of a cluster say: of those that can
// be reached, or of all when none can.
func join(cluster mesh.ClusterName, service mesh.ServiceName, offers []offer) ClusterExport {
	c := ClusterExport{Cluster: cluster, Export: mesh.Export{Service: service}}
	reachable := slices.ContainsFunc(offers, func(o offer) bool { return o.live })
	for _, o := range offers {
		c.Founding = o.founding // of one name there is only one: others are refused
		if o.live {
			c.Gateways = append(c.Gateways, o.by)
		}
		if o.live || !reachable {
			mergeExport(&c.Export, o.export)
		}
	}
	return c
}

// mergeExport joins what e says into into: of each port the highest counts,
// because an endpoint that one gateway cannot reach may be served by another,
// and all identities, because any of the cluster's gateways may answer.
func mergeExport(into, e *mesh.Export) {
	if into.ClusterSet == nil {
		into.ClusterSet = e.ClusterSet
	}
	for _, p := range e.Ports {
		i := slices.IndexFunc(into.Ports, func(q mesh.ExportPort) bool { return q.Port == p.Port })
		if i < 0 {
			p.Identities = slices.Clone(p.Identities)
			into.Ports = append(into.Ports, p)
			continue
		}
		q := &into.Ports[i]
		q.Ready = max(q.Ready, p.Ready)
		q.Total = max(q.Total, p.Total)
		q.Capacity = max(q.Capacity, p.Capacity)
		q.Identities = append(q.Identities, p.Identities...)
		slices.Sort(q.Identities)
		q.Identities = slices.Compact(q.Identities)
		q.Plain = q.Plain && p.Plain
	}
}

// View returns what is known now. It is made anew each time.
func (c *Core) View() *View {
	known := map[mesh.GatewayID]*Gateway{
		c.cfg.Self: {ID: c.cfg.Self, Advertise: c.cfg.Advertise, MeshAddress: c.cfg.MeshAddress, Alive: true},
	}
	at := func(id mesh.GatewayID) *Gateway {
		g := known[id]
		if g == nil {
			g = &Gateway{ID: id}
			known[id] = g
		}
		return g
	}
	for id, k := range c.gateways.known {
		g := at(id)
		g.Advertise, g.MeshAddress = k.Advertise, k.MeshAddress
	}
	for id, m := range c.gateways.members {
		g := at(id)
		g.Alive = m.alive
		if g.Advertise == "" && m.alive {
			g.Advertise = m.meta.Advertise
		}
	}
	var origins []Origin
	for id, o := range c.origins {
		if o.state != nil {
			at(id)
			origins = append(origins, Origin{ID: id, Version: o.state.Head().Version, Digest: o.state.Head().Digest,
				Stale: o.stale, Confirmed: o.confirmed, Founding: o.signer.Founding, Signer: o.signer, Records: o.taken,
				LeftOut: o.leftOut[:min(len(o.leftOut), maxLeftOut)], LeftOutTotal: len(o.leftOut), NotImported: len(o.exports) - len(o.taken)})
		}
	}
	for id, p := range c.gateways.peers {
		if known[id] != nil || p.Up { // else it has left
			at(id).Tunnel = p.Tunnel
		}
	}
	if h := c.own.State.Head(); h.Version.Seq > 0 {
		origins = append(origins, Origin{ID: c.cfg.Self, Version: h.Version, Digest: h.Digest, Records: c.own.State.Exports()})
	}
	for id, why := range c.refused {
		at(id).Refused = why
	}
	for id, g := range known {
		g.Hearsay = id != c.cfg.Self && c.gateways.members[id] != nil && !c.gateways.proved(id)
	}
	gateways := make([]Gateway, 0, len(known))
	for _, id := range slices.SortedFunc(maps.Keys(known), mesh.GatewayID.Compare) {
		gateways = append(gateways, *known[id])
	}
	slices.SortFunc(origins, func(a, b Origin) int { return a.ID.Compare(b.ID) })
	v := NewView(c.cfg.Self, gateways, origins)
	v.Awaiting = !c.awaiting.IsZero()
	return v
}
