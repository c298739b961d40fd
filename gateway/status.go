package gateway

import (
	"cmp"
	"encoding/hex"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/admin"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Status says what the gateway knows now.
func (g *Gateway) Status() *admin.GatewayStatus {
	view, _ := g.federation.View()
	services, _ := g.services.Snapshot()
	s := &admin.GatewayStatus{
		Self: g.cfg.ID(), Pending: g.ready.Pending(), Uptime: time.Since(g.started).Seconds(),
		Gateways: peersOf(view), Services: servicesOf(view, services), Origins: originsOf(view, time.Now()),
	}
	s.Ready = len(s.Pending) == 0
	for _, t := range g.tunnel.TargetStates() {
		if slices.Contains(g.cfg.Join, t.Addr) {
			j := admin.JoinTarget{Address: t.Addr, LastError: t.LastError}
			if t.Connected {
				j.Gateway = t.Gateway
			}
			s.Join = append(s.Join, j)
		}
	}
	if g.files != nil {
		for _, f := range g.files.Status() {
			if f.Err != "" {
				s.Faults = append(s.Faults, admin.ResourceStatus{File: f.File, Error: f.Err})
			}
		}
	}
	return s
}

func peersOf(view *federation.View) []admin.GatewayPeer {
	peers := make([]admin.GatewayPeer, 0, len(view.Gateways))
	for _, g := range view.Gateways {
		p := admin.GatewayPeer{ID: g.ID, Address: g.Advertise, Tunnel: "down", Gossip: "dead"}
		if g.Alive {
			p.Gossip = "alive"
		}
		switch {
		case g.ID == view.Self:
			p.Tunnel = "self"
		default:
			p.Since, p.LastError = g.Tunnel.Since, g.Tunnel.LastError
			if g.Tunnel.Up {
				p.Tunnel, p.LastError = "up", ""
				p.RTT = float64(g.Tunnel.RTT) / float64(time.Millisecond)
				p.Connections, p.Streams = g.Tunnel.Connections, g.Tunnel.Streams
			}
		}
		peers = append(peers, p)
	}
	return peers
}

func servicesOf(view *federation.View, local []mesh.Service) []admin.ServiceStatus {
	clusters := map[mesh.ServiceName][]admin.ClusterServiceStatus{}
	add := func(cluster mesh.ClusterName, e mesh.Export, exported, reachable bool) {
		for _, p := range e.Ports {
			clusters[e.Service] = append(clusters[e.Service], admin.ClusterServiceStatus{
				Cluster: cluster, Port: p.Port, Protocol: p.Protocol, Ready: p.Ready, Total: p.Total,
				Exported: exported, Reachable: reachable,
			})
		}
	}
	for i := range local {
		add(view.Self.Cluster, mesh.ExportOf(&local[i], ""), local[i].Export, true)
	}
	for _, name := range view.Services() {
		for _, x := range view.Exports(name) {
			add(x.Cluster, x.Export, true, len(x.Gateways) > 0)
		}
	}
	services := make([]admin.ServiceStatus, 0, len(clusters))
	for name, in := range clusters {
		slices.SortFunc(in, func(a, b admin.ClusterServiceStatus) int {
			return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Port, b.Port))
		})
		services = append(services, admin.ServiceStatus{Service: name, Clusters: in})
	}
	slices.SortFunc(services, func(a, b admin.ServiceStatus) int { return a.Service.Compare(b.Service) })
	return services
}

func originsOf(view *federation.View, now time.Time) []admin.OriginStatus {
	origins := make([]admin.OriginStatus, 0, len(view.Origins))
	for i := range view.Origins {
		o := &view.Origins[i]
		origins = append(origins, admin.OriginStatus{
			Origin: o.ID, Epoch: o.Version.Epoch, Seq: o.Version.Seq, Digest: hex.EncodeToString(o.Digest[:]),
			Records: len(o.Records), Age: o.Age(now).Seconds(), Stale: o.Stale,
		})
	}
	return origins
}
