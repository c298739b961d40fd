package gateway

import (
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/traffic"
)

// applyRules gives those of routes the rules that are written for them. A route that has rules
// takes the place of the one that was handed in, which is not changed.
func applyRules(routes []*mesh.Route, written *traffic.Set, cluster mesh.ClusterName) *traffic.Resolved {
	byName := make(map[mesh.Destination]*mesh.Route)
	for _, r := range routes {
		if r.Destination.Port == 0 {
			byName[r.Destination] = r
		}
	}
	resolved := traffic.Resolve(written, cluster, func(d mesh.Destination) []mesh.RoutePort {
		if r := byName[d]; r != nil {
			return r.Ports
		}
		return nil
	})
	if len(resolved.Attached) == 0 {
		return resolved
	}
	for i, r := range routes {
		if a, ok := resolved.Attached[r.Destination]; ok {
			with := *r
			with.Rules, with.ByNamespace = a.Rules, a.ByNamespace
			routes[i] = &with
		}
	}
	return resolved
}
