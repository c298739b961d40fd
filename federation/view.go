package federation

import (
	"cmp"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// View is what this gateway knows of the mesh at one moment. It never changes:
// a newer one replaces it (see [Federation.View]). Times in it say when
// something began, so that a View does not age while nothing happens.
type View struct {
	Self     mesh.GatewayID
	Gateways []Gateway // every gateway known, this one included, sorted by ID
	Origins  []Origin  // every catalog held, this gateway's included, sorted by ID

	exports  map[mesh.ServiceName][]ClusterExport
	services []mesh.ServiceName
}

// Gateway is what is known of one gateway.
type Gateway struct {
	ID          mesh.GatewayID
	Advertise   string // what other clusters dial, host:port; empty when never heard
	MeshAddress string // what its own cluster's sidecars dial, host:port; empty until it has said so over a tunnel
	Alive       bool   // gossip says so; only the tunnel decides what is routed
	Tunnel      Tunnel // zero for this gateway itself
}

// Tunnel is the state of the tunnel to a gateway.
type Tunnel struct {
	Up          bool
	RTT         time.Duration // smoothed, in nanoseconds; 0 when it was never up
	Connections int
	Streams     int
	Since       time.Time // of the present state
	LastError   string    // why it is down
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
	Records   []mesh.Export // sorted by service
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
	// Gateways are those of the cluster with a live tunnel: first those that
	// themselves see a ready endpoint, then by round-trip time. Empty: the
	// cluster cannot be reached now.
	Gateways []mesh.GatewayID
	RTT      time.Duration // of the first of Gateways; 0 without one
}

// NewView returns the view of gateway self that knows gateways and origins, both
// sorted by ID. It keeps them.
func NewView(self mesh.GatewayID, gateways []Gateway, origins []Origin) *View {
	v := &View{Self: self, Gateways: gateways, Origins: origins}
	v.index()
	return v
}

// Exports returns what every other cluster offers of the service, sorted by
// cluster. The caller must not change it.
func (v *View) Exports(s mesh.ServiceName) []ClusterExport { return v.exports[s] }

// Services returns the names that any other cluster exports, sorted. The caller
// must not change it.
func (v *View) Services() []mesh.ServiceName { return v.services }

// LocalGateways returns the gateways of this gateway's own cluster that can be
// told to sidecars: itself, and those that gossip or a live tunnel says are there.
func (v *View) LocalGateways() []Gateway {
	var local []Gateway
	for _, g := range v.Gateways {
		if g.ID.Cluster == v.Self.Cluster && (g.ID == v.Self || g.Alive || g.Tunnel.Up) {
			local = append(local, g)
		}
	}
	return local
}

// index fills what Exports and Services answer from. Gateways and Origins must
// be set and sorted.
func (v *View) index() {
	tunnels := make(map[mesh.GatewayID]Tunnel, len(v.Gateways))
	for _, g := range v.Gateways {
		if g.Tunnel.Up {
			tunnels[g.ID] = g.Tunnel
		}
	}
	type offer struct {
		origin *Origin
		export *mesh.Export
		live   bool
	}
	offers := make(map[mesh.ServiceName]map[mesh.ClusterName][]offer)
	for i := range v.Origins {
		o := &v.Origins[i]
		if o.ID.Cluster == v.Self.Cluster {
			continue
		}
		_, live := tunnels[o.ID]
		for j := range o.Records {
			e := &o.Records[j]
			byCluster := offers[e.Service]
			if byCluster == nil {
				byCluster = make(map[mesh.ClusterName][]offer)
				offers[e.Service] = byCluster
			}
			byCluster[o.ID.Cluster] = append(byCluster[o.ID.Cluster], offer{o, e, live})
		}
	}
	v.exports = make(map[mesh.ServiceName][]ClusterExport, len(offers))
	v.services = make([]mesh.ServiceName, 0, len(offers))
	for service, byCluster := range offers {
		clusters := make([]ClusterExport, 0, len(byCluster))
		for cluster, of := range byCluster {
			if slices.ContainsFunc(of, func(o offer) bool { return o.live }) {
				of = slices.DeleteFunc(of, func(o offer) bool { return !o.live })
			}
			c := ClusterExport{Cluster: cluster, Export: mesh.Export{Service: service}}
			ready := make(map[mesh.GatewayID]bool, len(of))
			for _, o := range of {
				mergeExport(&c.Export, o.export)
				if o.live {
					c.Gateways = append(c.Gateways, o.origin.ID)
					ready[o.origin.ID] = hasReady(o.export)
				}
			}
			slices.SortFunc(c.Gateways, func(a, b mesh.GatewayID) int {
				if ready[a] != ready[b] {
					if ready[a] {
						return -1
					}
					return 1
				}
				return cmp.Or(cmp.Compare(tunnels[a].RTT, tunnels[b].RTT), compareID(a, b))
			})
			if len(c.Gateways) > 0 {
				c.RTT = tunnels[c.Gateways[0]].RTT
			}
			clusters = append(clusters, c)
		}
		slices.SortFunc(clusters, func(a, b ClusterExport) int { return cmp.Compare(a.Cluster, b.Cluster) })
		v.exports[service] = clusters
		v.services = append(v.services, service)
	}
	slices.SortFunc(v.services, mesh.ServiceName.Compare)
}

// mergeExport joins what e says into into: of each port the highest counts,
// because an endpoint that one gateway cannot reach may be served by another,
// and all identities, because any of the cluster's gateways may answer.
func mergeExport(into, e *mesh.Export) {
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
	}
}

func hasReady(e *mesh.Export) bool {
	return slices.ContainsFunc(e.Ports, func(p mesh.ExportPort) bool { return p.Ready > 0 })
}

func compareID(a, b mesh.GatewayID) int {
	return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Name, b.Name))
}
