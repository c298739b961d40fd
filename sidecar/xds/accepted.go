package xds

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// accepted is what the gateways told and the sidecar took, by resource name. It
// is pure state: no lock, I/O or clock.
//
// The two types are kept apart to the letter of the protocol, because the gateway
// remembers per type what it sent: a Cluster that goes and comes back finds its
// endpoints still here, unsent the second time.
type accepted struct {
	clusters  map[string]*discoveryv3.Resource
	endpoints map[string]*discoveryv3.Resource
	absent    map[string]struct{}    // told that there is no such Cluster
	routes    map[string]*mesh.Route // decoded from what is in both maps
}

func newAccepted() *accepted {
	return &accepted{
		clusters:  map[string]*discoveryv3.Resource{},
		endpoints: map[string]*discoveryv3.Resource{},
		absent:    map[string]struct{}{},
		routes:    map[string]*mesh.Route{},
	}
}

// resourcesOf returns the map for a type URL; nil: not one that we ask for.
func (a *accepted) resourcesOf(typeURL string) map[string]*discoveryv3.Resource {
	switch typeURL {
	case xds.ClusterType:
		return a.clusters
	case xds.EndpointType:
		return a.endpoints
	}
	return nil
}

// take applies a response and reports whether a route or an absence changed. A
// resource that cannot be used is left out and the old one kept; the error joins
// all such.
func (a *accepted) take(resp *discoveryv3.DeltaDiscoveryResponse) (changed bool, err error) {
	held := a.resourcesOf(resp.GetTypeUrl())
	if held == nil {
		return false, fmt.Errorf("type %q was not asked for", resp.GetTypeUrl())
	}
	var faults []error
	for _, r := range resp.GetResources() {
		if r.GetResource().GetTypeUrl() != resp.GetTypeUrl() {
			faults = append(faults, fmt.Errorf("resource %q is a %q", r.GetName(), r.GetResource().GetTypeUrl()))
			continue
		}
		old, had := held[r.GetName()]
		held[r.GetName()] = r
		if err := a.decode(r.GetName()); err != nil {
			faults = append(faults, err)
			if delete(held, r.GetName()); had {
				held[r.GetName()] = old
			}
			continue
		}
		if resp.GetTypeUrl() == xds.ClusterType {
			delete(a.absent, r.GetName())
		}
		changed = true
	}
	for _, name := range resp.GetRemovedResources() {
		_, had := held[name]
		delete(held, name)
		if _, ok := a.routes[name]; ok {
			delete(a.routes, name)
			changed = true
		}
		if _, known := a.absent[name]; resp.GetTypeUrl() == xds.ClusterType && !known {
			a.absent[name] = struct{}{}
			changed = true
		}
		changed = changed || had
	}
	return changed, errors.Join(faults...)
}

// decode makes the route of name anew when both of its halves are here.
func (a *accepted) decode(name string) error {
	cluster, endpoints := a.clusters[name], a.endpoints[name]
	if cluster == nil || endpoints == nil {
		return nil
	}
	r, err := xds.Decode(cluster.GetResource().GetValue(), endpoints.GetResource().GetValue())
	if err != nil {
		return fmt.Errorf("resource %q: %w", name, err)
	}
	if r.Destination.String() != name {
		return fmt.Errorf("resource %q is that of %s", name, r.Destination)
	}
	a.routes[name] = r
	return nil
}

// forget drops everything about the names that keep does not have.
func (a *accepted) forget(keep func(name string) bool) {
	for _, m := range []map[string]*discoveryv3.Resource{a.clusters, a.endpoints} {
		for name := range m {
			if !keep(name) {
				delete(m, name)
			}
		}
	}
	for name := range a.absent {
		if !keep(name) {
			delete(a.absent, name)
		}
	}
	for name := range a.routes {
		if !keep(name) {
			delete(a.routes, name)
		}
	}
}

// versions returns what is held of a type, as a gateway wants it told on a new
// stream.
func (a *accepted) versions(typeURL string) map[string]string {
	held := a.resourcesOf(typeURL)
	v := make(map[string]string, len(held))
	for name, r := range held {
		v[name] = r.GetVersion()
	}
	return v
}

// answered reports whether name has a route or is known not to exist.
func (a *accepted) answered(name string) bool {
	if _, ok := a.routes[name]; ok {
		return true
	}
	_, ok := a.absent[name]
	return ok
}

// state returns the whole of it, sorted.
func (a *accepted) state() State {
	s := State{Routes: make([]*mesh.Route, 0, len(a.routes)), Absent: make([]mesh.Destination, 0, len(a.absent))}
	for _, r := range a.routes {
		s.Routes = append(s.Routes, r)
	}
	for name := range a.absent {
		if d, err := mesh.ParseDestinationName(name); err == nil {
			s.Absent = append(s.Absent, d)
		}
	}
	slices.SortFunc(s.Routes, func(x, y *mesh.Route) int { return compareDestinations(x.Destination, y.Destination) })
	slices.SortFunc(s.Absent, compareDestinations)
	return s
}

func compareDestinations(a, b mesh.Destination) int { return strings.Compare(a.String(), b.String()) }
