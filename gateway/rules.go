package gateway

import (
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/status"
	"github.com/isthmus-mesh/isthmus/internal/traffic"
)

// applyRules gives those of routes the rules that are written for them. A route that has rules
// takes the place of the one that was handed in, which is not changed. A service of this cluster that has rules
// is called through the mesh by whatever name, unless it has ports that the mesh does not carry.
func applyRules(routes []*mesh.Route, services []mesh.Service, written *traffic.Set, cluster mesh.ClusterName) *traffic.Bindings {
	byName := make(map[mesh.Destination]*mesh.Route)
	for _, r := range routes {
		if r.Destination.Port == 0 {
			byName[r.Destination] = r
		}
	}
	bindings := traffic.Bind(written, cluster, func(d mesh.Destination) []mesh.RoutePort {
		if r := byName[d]; r != nil {
			return r.Ports
		}
		return nil
	})
	if len(bindings.Attached) == 0 {
		return bindings
	}
	inside := map[mesh.Destination]bool{}
	for i := range services {
		if s := &services[i]; !s.OtherPorts {
			inside[mesh.Destination{Service: s.Name, Cluster: cluster}] = true
		}
	}
	ruled := make(map[mesh.Destination]bool, len(bindings.Attached))
	for d := range bindings.Attached {
		ruled[mesh.Destination{Service: d.Service, Cluster: d.Cluster}] = true
	}
	for i, r := range routes {
		a, ok := bindings.Attached[r.Destination]
		leads := (r.Outside || r.Headless) && ruled[r.Destination] && inside[r.Destination]
		if !ok && !leads {
			continue
		}
		with := *r
		if with.Rules, with.ByNamespace = a.Rules, a.ByNamespace; leads {
			with.Outside, with.Headless = false, false
		}
		routes[i] = &with
	}
	return bindings
}

// badRoutes are the routes that are not in force as they are written; nil says that it is not known.
func badRoutes(r *traffic.Bindings) (bad []status.BadRoute) {
	if r == nil {
		return nil
	}
	for _, of := range r.Routes {
		for i, p := range of.Parents {
			for _, problem := range []traffic.Problem{p.Accepted, p.Refs} {
				if problem != (traffic.Problem{}) {
					bad = append(bad, status.BadRoute{Route: of.Route.String(), Parent: of.Route.Parents[i].Service, Error: problem.Message})
				}
			}
		}
	}
	return bad
}
