package gateway

import (
	"cmp"
	"context"
	"encoding/hex"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/admin"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/status"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
	"github.com/isthmus-mesh/isthmus/internal/version"
)

// Status says what the gateway knows now.
func (g *Gateway) Status() *status.Gateway {
	view, _ := g.federation.View()
	services, _ := g.services.Snapshot()
	s := &status.Gateway{
		Self: g.cfg.ID(), Version: version.String(), Pending: g.ready.Unmet(), Uptime: time.Since(g.started).Seconds(),
		Certificate: status.Certificate{NotAfter: g.identity.NotAfter(), WarnFrom: g.identity.WarnFrom(), Error: g.identity.Fault()},
		Gateways:    peersOf(view, g.tunnel, g.identity.Trust().Takes), Services: servicesOf(view, services, g.router.Load().conflicts), Origins: originsOf(view, time.Now()),
	}
	s.Trust = g.trustStatus(view)
	if g.kubernetes != nil && g.kubernetes.advertiser != nil {
		s.NoAddress = g.kubernetes.advertiser.unknown()
	}
	s.NothingImported = nothingImported(view, g.inForce.Load().Imports)
	s.Unjudged = g.authorizers.Load().unjudged()
	s.Routes = badRoutes(g.bindings.Load())
	s.Ready, s.Conflicts = len(s.Pending) == 0, g.router.Load().conflicts.status()
	s.Join, s.StateError = g.joinTargets(), admin.KeptError(g.kept())
	s.LeftOut = g.federation.Own().LeftOut()
	for _, r := range g.registered.Refused() {
		s.Refused = append(s.Refused, status.RefusedRegistration{Peer: r.Peer, Service: r.Service, Instance: r.Instance, Error: r.Why})
	}
	for _, f := range g.files.Status() {
		if f.Err != "" {
			s.Faults = append(s.Faults, status.ResourceFault{File: f.File, Error: f.Err})
		}
	}
	if g.kubernetes != nil {
		s.Kubernetes = g.kubernetes.status()
		for _, f := range g.kubernetes.resources.Faults() {
			s.Objects = append(s.Objects, status.ResourceFault{File: f.Object, Error: f.Error})
		}
	}
	if g.reloader != nil {
		s.Reload = g.reloader.Last()
	}
	return s
}

// joinTargets says how it goes with each address that is joined.
func (g *Gateway) joinTargets() (all []status.JoinTarget) {
	for _, t := range g.tunnel.TargetStates() {
		if slices.Contains(g.inForce.Load().Join, t.Addr) {
			j := status.JoinTarget{Address: t.Addr, LastError: t.LastError}
			if t.Connected {
				j.Gateway = t.Gateway
			}
			all = append(all, j)
		}
	}
	return all
}

// peersOf returns every gateway of the mesh, with what the tunnel says of those that
// there is or was one to.
func peersOf(view *federation.View, node *tunnel.Node, takes func(mesh.GatewayID) bool) []status.Peer {
	tunnels, _ := node.Peers()
	peers := make([]status.Peer, 0, len(view.Gateways))
	for _, g := range view.Gateways {
		p := status.Peer{ID: g.ID, Address: g.Advertise, Tunnel: "down", Gossip: "dead", Hearsay: g.Hearsay, Refused: g.Refused, Revoked: !takes(g.ID)}
		if g.Alive {
			p.Gossip = "alive"
		}
		if g.ID == view.Self {
			p.Tunnel = "self"
		} else if i := slices.IndexFunc(tunnels, func(t tunnel.Peer) bool { return t.Gateway == g.ID }); i >= 0 {
			t := &tunnels[i]
			p.Since, p.LastError, p.PacketSize, p.MTUReduced = t.Since, t.LastError, t.PacketSize, t.MTUReduced
			if t.State == tunnel.Up {
				p.Tunnel, p.LastError = "up", ""
				p.RTT = float64(t.RTT) / float64(time.Millisecond)
				p.Connections, p.Streams = t.Connections, t.Streams
			}
		}
		peers = append(peers, p)
	}
	return peers
}

func servicesOf(view *federation.View, local []mesh.Service, conflicts conflicts) []status.Service {
	clusters := map[mesh.ServiceName][]status.ClusterService{}
	for i := range local {
		name := local[i].Name
		for _, p := range local[i].Ports {
			clusters[name] = append(clusters[name], status.ClusterService{
				Cluster: view.Self.Cluster, Port: p.Port, Protocol: p.Protocol, Ready: readyOf(p.Endpoints), Total: uint32(len(p.Endpoints)),
				Exported: p.Exported, Reachable: true, Plain: slices.ContainsFunc(p.Endpoints, func(e mesh.Endpoint) bool { return e.Identity == "" }),
			})
		}
	}
	for _, name := range view.Services() {
		for _, x := range view.Exports(name) {
			for _, p := range x.Export.Ports {
				clusters[name] = append(clusters[name], status.ClusterService{
					Cluster: x.Cluster, Port: p.Port, Protocol: p.Protocol, Ready: p.Ready, Total: p.Total,
					Exported: true, Reachable: len(x.Gateways) > 0, Plain: p.Plain,
					LeftOut: conflicts.leftOut(mesh.Destination{Service: name, Port: p.Port}, x.Cluster),
				})
			}
		}
	}
	services := make([]status.Service, 0, len(clusters))
	for name, in := range clusters {
		slices.SortFunc(in, func(a, b status.ClusterService) int {
			return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Port, b.Port))
		})
		services = append(services, status.Service{Service: name, Clusters: in})
	}
	slices.SortFunc(services, func(a, b status.Service) int { return a.Service.Compare(b.Service) })
	return services
}

func readyOf(endpoints []mesh.Endpoint) (n uint32) {
	for i := range endpoints {
		if endpoints[i].Ready {
			n++
		}
	}
	return n
}

// nothingImported returns the clusters that offer something, of which imports name something
// else.
func nothingImported(view *federation.View, imports mesh.Imports) (all []mesh.ClusterName) {
	taken, not := map[mesh.ClusterName]int{}, map[mesh.ClusterName]int{}
	for i := range view.Origins {
		o := &view.Origins[i]
		taken[o.ID.Cluster] += len(o.Records)
		not[o.ID.Cluster] += o.NotImported
	}
	for cluster, n := range not {
		names, named := imports[cluster]
		if !named {
			names = imports[mesh.AnyCluster]
		}
		if n > 0 && taken[cluster] == 0 && len(names) > 0 {
			all = append(all, cluster)
		}
	}
	slices.Sort(all)
	return all
}

func originsOf(view *federation.View, now time.Time) []status.Origin {
	origins := make([]status.Origin, 0, len(view.Origins))
	for i := range view.Origins {
		o := &view.Origins[i]
		var leftOut []status.LeftOut
		for _, l := range o.LeftOut {
			leftOut = append(leftOut, status.LeftOut(l))
		}
		origins = append(origins, status.Origin{
			Origin: o.ID, Epoch: o.Version.Epoch, Seq: o.Version.Seq, Digest: hex.EncodeToString(o.Digest[:]),
			Records: len(o.Records), Age: o.Age(now).Seconds(), Stale: o.Stale,
			LeftOut: leftOut, LeftOutTotal: o.LeftOutTotal, NotImported: o.NotImported,
		})
	}
	return origins
}

// forget has the gateways of this cluster forget a cluster or a gateway that is gone for good.
func (g *Gateway) forget(ctx context.Context, name string) *status.Forget {
	ids, elsewhere, err := g.federation.Forget(ctx, name)
	verdict := &status.Forget{Name: name, Self: g.cfg.ID(), Forgotten: ids, Elsewhere: elsewhere}
	if err != nil {
		verdict.Error = err.Error()
	}
	return verdict
}
