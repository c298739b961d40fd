package gateway

import (
	"net"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/gateway/entrance"
	"github.com/isthmus-mesh/isthmus/gateway/forward"
	"github.com/isthmus-mesh/isthmus/gateway/imports"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// offersOf returns what every cluster that exports a service says of it, the own one
// included, which is self. It is pure.
func offersOf(view *federation.View, own []mesh.Service, self identity.Peer) map[mesh.ServiceName][]imports.Offer {
	all := map[mesh.ServiceName][]imports.Offer{}
	for i := range own {
		if s := &own[i]; s.Exported() {
			all[s.Name] = append(all[s.Name], imports.Offer{Cluster: view.Self.Cluster, Founding: self.Founding, Export: mesh.ExportOf(s, self.ID.String())})
		}
	}
	for _, name := range view.Services() {
		for _, x := range view.Exports(name) {
			all[name] = append(all[name], imports.Offer{Cluster: x.Cluster, Founding: x.Founding, Export: x.Export})
		}
	}
	return all
}

// wireImports makes what shows this cluster's API server what the mesh offers, and the
// entrance for pods without a sidecar.
func (g *Gateway) wireImports() (err error) {
	k := g.kubernetes
	if k == nil {
		return nil
	}
	ports := imports.Range(g.cfg.Entrance.Ports)
	var want func(map[uint16]mesh.Destination)
	if ports.First != 0 {
		g.entrance, err = entrance.New(entrance.Config{
			Identity: g.identity, Listen: g.opts.Listen, Enter: g.enter, Answers: g.answersFor,
			Limits: g.limits, Log: g.log, Metrics: g.registry,
		})
		if err != nil {
			return err
		}
		want = g.entrance.Want
	}
	g.imports, err = imports.New(imports.Config{
		Client: k.client, Cluster: g.cfg.Cluster, Gateways: k.siblings, Lease: k.lease, Owner: gatewaysService, Ports: ports, Want: want,
		Log: g.log, Metrics: g.registry,
	})
	return err
}

// enter opens a path for who has no sidecar, to a cluster that exports the service: what the
// own one has under the name of another's export, and keeps for itself, is not meant.
func (g *Gateway) enter(d mesh.Destination, peer net.Addr) (*forward.Entered, error) {
	if g.router.Load().keeps(d) {
		return g.forward.Enter(d, peer, g.cfg.Cluster)
	}
	return g.forward.Enter(d, peer)
}

// keeps reports whether this cluster has d and does not export it.
func (r *Router) keeps(d mesh.Destination) bool {
	s := r.local[d.Service]
	if s == nil {
		return false
	}
	p, ok := s.PortNumbered(d.Port)
	return ok && !p.Exported
}

// answersFor returns who may answer a call of this gateway: who the view and this
// cluster's services say, and this gateway itself for endpoints without a sidecar.
func (g *Gateway) answersFor(d mesh.Destination) []string {
	return append(g.router.Load().answers(d), g.identity.ID().String())
}

// answers returns the SPIFFE IDs of those to whom r takes a path to d.
func (r *Router) answers(d mesh.Destination) (ids []string) {
	if s := r.local[d.Service]; s != nil {
		if p, ok := s.PortNumbered(d.Port); ok {
			for _, e := range p.Endpoints {
				if e.Identity != "" {
					ids = append(ids, e.Identity)
				}
			}
		}
	}
	for _, x := range r.view.Exports(d.Service) {
		if p, ok := x.Export.PortNumbered(d.Port); ok && r.conflicts.leftOut(d, x.Cluster) == "" {
			ids = append(ids, p.Identities...)
		}
	}
	return ids
}

// importsParts are those of a gateway that shows what the mesh offers.
func (g *Gateway) importsParts() []part {
	var all []part
	if g.imports != nil {
		all = append(all, part{"imports", g.imports.Run})
	}
	if g.entrance != nil {
		all = append(all, part{"entrance", g.entrance.Run})
	}
	return all
}
