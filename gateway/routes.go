package gateway

import (
	"cmp"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// routesOf returns everything that a sidecar of this cluster may dial: each
// service and each of its ports, by itself and pinned to each cluster that has
// it. A sidecar is told only what it asks for.
func routesOf(view *federation.View, local []mesh.Service, router *Router) []*mesh.Route {
	b := routeBuilder{view: view, router: router, routes: map[mesh.Destination]*mesh.Route{}}
	for i := range local {
		s := &local[i]
		for _, p := range s.Ports {
			for _, pin := range []mesh.ClusterName{"", view.Self.Cluster} {
				r := b.route(mesh.Destination{Service: s.Name, Port: p.Port, Cluster: pin}, p.Protocol)
				r.Local = p.Endpoints
				if pin != "" {
					byName := b.routes[mesh.Destination{Service: s.Name, Cluster: pin}]
					byName.Outside, byName.Headless = s.Outside(), s.Headless
					if !s.Plain() {
						byName.Addresses = s.Addresses
					}
				}
				for _, e := range p.Endpoints {
					if e.Identity != "" {
						r.Identities = append(r.Identities, e.Identity)
					}
				}
			}
		}
	}
	for _, name := range view.Services() {
		for _, x := range view.Exports(name) {
			for _, p := range x.Export.Ports {
				for _, pin := range []mesh.ClusterName{"", x.Cluster} {
					d := mesh.Destination{Service: name, Port: p.Port, Cluster: pin}
					if router.conflicts.leftOut(d, x.Cluster) != "" {
						continue
					}
					r := b.route(d, p.Protocol)
					r.Identities = append(r.Identities, p.Identities...)
				}
			}
		}
	}
	return b.finish()
}

type routeBuilder struct {
	view   *federation.View
	router *Router
	routes map[mesh.Destination]*mesh.Route
}

// route returns the route for d, which it makes when there is none, together
// with the route that lists d among its service's ports. Whose
// protocol is not that of the route was left out before.
func (b *routeBuilder) route(d mesh.Destination, p mesh.Protocol) *mesh.Route {
	r := b.routes[d]
	if r == nil {
		r = &mesh.Route{Destination: d, Protocol: p}
		b.routes[d] = r
		name := mesh.Destination{Service: d.Service, Cluster: d.Cluster}
		list := b.routes[name]
		if list == nil {
			list = &mesh.Route{Destination: name, Protocol: mesh.TCP}
			b.routes[name] = list
		}
		list.Ports = append(list.Ports, mesh.RoutePort{Number: d.Port, Protocol: p})
	}
	return r
}

// finish gives every route that leads to another cluster this cluster's
// gateways, and sorts, so that equal inputs give equal routes.
func (b *routeBuilder) finish() []*mesh.Route {
	routes := make([]*mesh.Route, 0, len(b.routes))
	for d, r := range b.routes {
		slices.SortFunc(r.Ports, func(x, y mesh.RoutePort) int { return cmp.Compare(x.Number, y.Number) })
		if d.Port != 0 && d.Cluster != b.view.Self.Cluster && b.exportedElsewhere(d) {
			r.Gateways = b.gateways(d)
		}
		slices.Sort(r.Identities)
		r.Identities = slices.Compact(r.Identities)
		routes = append(routes, r)
	}
	slices.SortFunc(routes, func(x, y *mesh.Route) int {
		return cmp.Or(x.Destination.Service.Compare(y.Destination.Service),
			cmp.Compare(x.Destination.Port, y.Destination.Port), cmp.Compare(x.Destination.Cluster, y.Destination.Cluster))
	})
	return routes
}

func (b *routeBuilder) exportedElsewhere(d mesh.Destination) bool {
	return slices.ContainsFunc(b.view.Exports(d.Service), func(x federation.ClusterExport) bool {
		return d.Cluster == "" || d.Cluster == x.Cluster
	})
}

// gateways returns this cluster's gateways as endpoints, ready when they can lead to
// d. What is out of reach of this one need not be of the others: who is cut off must
// not keep its sidecars from them.
func (b *routeBuilder) gateways(d mesh.Destination) []mesh.Endpoint {
	var es []mesh.Endpoint
	reaches, mayBeReached := b.router.Reaches(d), b.router.MayBeReached(d)
	for _, g := range b.view.LocalGateways() {
		if g.MeshAddress == "" {
			continue // not heard from yet
		}
		ready := reaches || g.ID != b.view.Self && mayBeReached
		es = append(es, mesh.Endpoint{Instance: string(g.ID.Name), Address: g.MeshAddress, Ready: ready, Weight: 1})
	}
	return es
}
