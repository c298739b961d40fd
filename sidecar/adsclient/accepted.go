package adsclient

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// routeTypes are the type URLs of the resources that a route is made of, in the order
// of asking. The resources of a destination have its name in each.
var routeTypes = [...]string{xds.ClusterType, xds.EndpointType, xds.RulesType}

// types are all that a sidecar asks for.
var types = [...]string{xds.ClusterType, xds.EndpointType, xds.RulesType, xds.PolicyType}

// accepted is what the gateways told and the sidecar took. It is pure state: no
// lock, I/O or clock.
//
// The types are kept apart to the letter of the protocol, because the gateway
// remembers per type what it sent: a Cluster that goes and comes back finds its
// endpoints still here, unsent the second time.
type accepted struct {
	resources map[string]map[string]*discoveryv3.Resource // by type URL and name; has every one of types
	absent    map[string]struct{}                         // told that there is no such Cluster
	ruleless  map[string]struct{}                         // told that there are no rules, as a gateway says that knows of none
	routes    map[string]*mesh.Route                      // decoded from the resources
	services  []mesh.ServiceName                          // whose policies are taken
	policies  map[mesh.ServiceName]*policy.Set            // decoded from their resources; of whom it was told
}

func newAccepted(services []mesh.ServiceName) *accepted {
	a := &accepted{
		services:  services,
		policies:  map[mesh.ServiceName]*policy.Set{},
		resources: map[string]map[string]*discoveryv3.Resource{},
		absent:    map[string]struct{}{},
		ruleless:  map[string]struct{}{},
		routes:    map[string]*mesh.Route{},
	}
	for _, typeURL := range types {
		a.resources[typeURL] = map[string]*discoveryv3.Resource{}
	}
	return a
}

// take applies a response and reports whether a route, an absence or the policy changed. A
// resource that cannot be used is left out and the old one stays; the error joins
// all such.
func (a *accepted) take(resp *discoveryv3.DeltaDiscoveryResponse) (changed bool, err error) {
	typeURL := resp.GetTypeUrl()
	if a.resources[typeURL] == nil {
		return false, fmt.Errorf("type %q was not asked for", typeURL)
	}
	var faults []error
	for _, r := range resp.GetResources() {
		if err := a.put(typeURL, r); err != nil {
			faults = append(faults, err)
			continue
		}
		changed = true
	}
	for _, name := range resp.GetRemovedResources() {
		changed = a.remove(typeURL, name) || changed
	}
	return changed, errors.Join(faults...)
}

// put takes one resource, unless it cannot be used.
func (a *accepted) put(typeURL string, r *discoveryv3.Resource) error {
	name := r.GetName()
	if got := r.GetResource().GetTypeUrl(); got != typeURL {
		return fmt.Errorf("resource %q is a %q", name, got)
	}
	ofType := a.resources[typeURL]
	old, had := ofType[name]
	ofType[name] = r
	decode := a.decode
	if typeURL == xds.PolicyType {
		decode = a.decodePolicy
	}
	if err := decode(name); err != nil {
		if delete(ofType, name); had {
			ofType[name] = old
		}
		return err
	}
	switch typeURL {
	case xds.ClusterType:
		delete(a.absent, name)
	case xds.RulesType:
		delete(a.ruleless, name)
	}
	return nil
}

// remove drops one resource and reports whether that changed anything. A policy stays:
// who serves has one, and a gateway that knows of none has not heard of the service yet.
func (a *accepted) remove(typeURL, name string) bool {
	if typeURL == xds.PolicyType {
		return false
	}
	_, had := a.resources[typeURL][name]
	delete(a.resources[typeURL], name)
	if typeURL == xds.RulesType {
		_, known := a.ruleless[name]
		a.ruleless[name] = struct{}{}
		before := a.routes[name]
		_ = a.decode(name) // what is left of it was decoded before
		return !known && before != a.routes[name]
	}
	delete(a.routes, name) // it had all
	if _, known := a.absent[name]; typeURL == xds.ClusterType && !known {
		a.absent[name] = struct{}{}
		return true
	}
	return had
}

// decode makes the route of name anew when all of its resources are here. Before the rules
// are known no request must take the way that it would take without any.
func (a *accepted) decode(name string) error {
	cluster, endpoints, rules := a.resources[xds.ClusterType][name], a.resources[xds.EndpointType][name], a.resources[xds.RulesType][name]
	if cluster == nil || endpoints == nil {
		return nil
	}
	r, err := xds.Decode(cluster.GetResource().GetValue(), endpoints.GetResource().GetValue(), rules.GetResource().GetValue())
	if err != nil {
		return fmt.Errorf("resource %q: %w", name, err)
	}
	if r.Destination.String() != name {
		return fmt.Errorf("resource %q is that of %s", name, r.Destination)
	}
	if _, none := a.ruleless[name]; rules == nil && !none && xds.NeedsRules(r) {
		return nil
	}
	a.routes[name] = r
	return nil
}

// backends returns the destinations to which the rules of those routes lead that are asked for
// themselves. The rules of a backend have no effect on who comes by those of another.
func (a *accepted) backends(asked func(name string) bool) map[string]struct{} {
	names := map[string]struct{}{}
	for name, r := range a.routes {
		if r.Rules == nil || !asked(name) {
			continue
		}
		for i := range r.Rules {
			for _, b := range r.Rules[i].Action.Backends {
				if b.Destination != (mesh.Destination{}) {
					names[b.Destination.String()] = struct{}{}
				}
			}
			for _, m := range r.Rules[i].Action.Mirrors {
				names[m.Destination.String()] = struct{}{}
			}
		}
	}
	return names
}

// asks reports whether the policy of that name is asked for.
func (a *accepted) asks(name string) bool {
	return slices.ContainsFunc(a.services, func(s mesh.ServiceName) bool { return s.String() == name })
}

// decodePolicy takes the policy of a service beside anew.
func (a *accepted) decodePolicy(name string) error {
	if !a.asks(name) {
		return fmt.Errorf("policy %q was not asked for", name)
	}
	set, err := xds.DecodePolicy(a.resources[xds.PolicyType][name].GetResource().GetValue())
	if err != nil {
		return fmt.Errorf("policy of %s: %w", name, err)
	}
	if set.Service.String() != name {
		return fmt.Errorf("policy %q is that of %s", name, set.Service)
	}
	a.policies[set.Service] = set
	return nil
}

// retain forgets everything about destinations but these, and reports whether that
// changed a route or an absence.
func (a *accepted) retain(names map[string]struct{}) (changed bool) {
	before := len(a.routes) + len(a.absent)
	for _, typeURL := range routeTypes {
		retain(a.resources[typeURL], names)
	}
	retain(a.absent, names)
	retain(a.ruleless, names)
	retain(a.routes, names)
	return len(a.routes)+len(a.absent) != before
}

// retainServices takes no policies but those of services from here on, and forgets others.
func (a *accepted) retainServices(services []mesh.ServiceName) {
	a.services = services
	maps.DeleteFunc(a.policies, func(name mesh.ServiceName, _ *policy.Set) bool { return !slices.Contains(services, name) })
	maps.DeleteFunc(a.resources[xds.PolicyType], func(name string, _ *discoveryv3.Resource) bool { return !a.asks(name) })
}

func retain[T any](m map[string]T, names map[string]struct{}) {
	maps.DeleteFunc(m, func(name string, _ T) bool {
		_, ok := names[name]
		return !ok
	})
}

// versions returns what there is of a type, as a gateway wants it told on a new
// stream.
func (a *accepted) versions(typeURL string) map[string]string {
	v := make(map[string]string, len(a.resources[typeURL]))
	for name, r := range a.resources[typeURL] {
		v[name] = r.GetVersion()
	}
	return v
}

// state returns the whole of it, sorted.
func (a *accepted) state() (routes []*mesh.Route, absent []mesh.Destination) {
	for name := range a.absent {
		if d, err := mesh.ParseDestinationName(name); err == nil {
			absent = append(absent, d)
		}
	}
	routes = slices.SortedFunc(maps.Values(a.routes), func(x, y *mesh.Route) int { return compareDestinations(x.Destination, y.Destination) })
	slices.SortFunc(absent, compareDestinations)
	return routes, absent
}

func compareDestinations(a, b mesh.Destination) int { return strings.Compare(a.String(), b.String()) }
