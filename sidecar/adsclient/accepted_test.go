package adsclient

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/wholefile"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

func dest(name string) mesh.Destination {
	return mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: name}, Port: 80}
}

func encode(tb testing.TB, name string, endpoints ...string) xds.Encoded {
	tb.Helper()
	r := &mesh.Route{Destination: dest(name), Protocol: mesh.HTTP}
	for _, addr := range endpoints {
		r.Local = append(r.Local, mesh.Endpoint{Instance: "i-" + addr, Address: addr, Ready: true, Weight: 1})
	}
	e, err := xds.Encode(r)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func clusters(rs ...*discoveryv3.Resource) *discoveryv3.DeltaDiscoveryResponse {
	return &discoveryv3.DeltaDiscoveryResponse{TypeUrl: xds.ClusterType, Resources: rs}
}

func endpoints(rs ...*discoveryv3.Resource) *discoveryv3.DeltaDiscoveryResponse {
	return &discoveryv3.DeltaDiscoveryResponse{TypeUrl: xds.EndpointType, Resources: rs}
}

func rules(rs ...*discoveryv3.Resource) *discoveryv3.DeltaDiscoveryResponse {
	return &discoveryv3.DeltaDiscoveryResponse{TypeUrl: xds.RulesType, Resources: rs}
}

func removed(typeURL, name string) *discoveryv3.DeltaDiscoveryResponse {
	return &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL, RemovedResources: []string{dest(name).String()}}
}

// told is what the sidecar was told.
type told struct {
	Routes []*mesh.Route
	Absent []mesh.Destination
}

func stateOf(a *accepted) told {
	routes, absent := a.state()
	return told{routes, absent}
}

// take applies a response that must be good.
func take(t *testing.T, a *accepted, resp *discoveryv3.DeltaDiscoveryResponse) bool {
	t.Helper()
	changed, err := a.take(resp)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func TestARouteNeedsAllOfItsParts(t *testing.T) {
	a := newAccepted(nil)
	e := encode(t, "orders", "10.0.0.1:80")
	take(t, a, clusters(e.Cluster))
	if len(stateOf(a).Routes) != 0 || a.answered(dest("orders").String()) {
		t.Error("half a route is a route")
	}
	take(t, a, endpoints(e.Endpoints))
	if len(stateOf(a).Routes) != 0 || a.answered(dest("orders").String()) {
		t.Error("requests go before it is known by what rules")
	}
	take(t, a, rules(e.Rules))
	if s := stateOf(a); len(s.Routes) != 1 || s.Routes[0].Destination != dest("orders") {
		t.Errorf("the state is %+v", s)
	}
}

func TestAClusterThatGoesAndComesBackFindsItsEndpoints(t *testing.T) {
	a := newAccepted(nil)
	e := encode(t, "orders", "10.0.0.1:80")
	take(t, a, clusters(e.Cluster))
	take(t, a, endpoints(e.Endpoints))
	take(t, a, rules(e.Rules))
	take(t, a, removed(xds.ClusterType, "orders"))
	if s := stateOf(a); len(s.Routes) != 0 || !slices.Equal(s.Absent, []mesh.Destination{dest("orders")}) {
		t.Errorf("after the removal the state is %+v", s)
	}
	// The endpoints did not change meanwhile, so nobody sends them again.
	take(t, a, clusters(e.Cluster))
	if s := stateOf(a); len(s.Routes) != 1 || len(s.Routes[0].Local) != 1 || len(s.Absent) != 0 {
		t.Errorf("after the return the state is %+v", s)
	}
}

func TestTheSameAbsenceToldAgainIsNoChange(t *testing.T) {
	a := newAccepted(nil)
	if !take(t, a, removed(xds.ClusterType, "ghost")) {
		t.Error("the first time is one")
	}
	if take(t, a, removed(xds.ClusterType, "ghost")) || take(t, a, removed(xds.EndpointType, "ghost")) {
		t.Error("changed")
	}
}

func TestWhatCannotBeUsedIsRefusedAndTheOldKept(t *testing.T) {
	good, other := encode(t, "orders", "10.0.0.1:80"), encode(t, "cart", "10.0.0.2:80")
	name := dest("orders").String()
	for what, bad := range map[string]*discoveryv3.Resource{
		"another's endpoints":    {Name: name, Resource: other.Endpoints.Resource},
		"a cluster as endpoints": good.Cluster,
		"an empty resource":      {Name: name},
		"no resource":            nil,
	} {
		a := newAccepted(nil)
		take(t, a, clusters(good.Cluster, other.Cluster))
		take(t, a, rules(good.Rules, other.Rules))
		take(t, a, endpoints(good.Endpoints))
		if _, err := a.take(endpoints(bad, other.Endpoints)); err == nil {
			t.Errorf("%s: no error", what)
		}
		if r := a.routes[name]; r == nil || len(r.Local) != 1 {
			t.Errorf("%s: the old route is gone", what)
		}
		if a.routes[dest("cart").String()] == nil {
			t.Errorf("%s: the good resource beside it was not taken", what)
		}
	}
	if _, err := newAccepted(nil).take(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: "type.googleapis.com/envoy.config.listener.v3.Listener"}); err == nil {
		t.Error("a type that was not asked for is taken")
	}
}

func TestTheStateOnDiskIsReadBackWithItsVersions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "routes.pb")
	a := newAccepted(nil)
	if err := readState(path, a); err != nil {
		t.Fatalf("a missing file: %v", err)
	}
	e := encode(t, "orders", "10.0.0.1:80")
	take(t, a, clusters(e.Cluster))
	take(t, a, endpoints(e.Endpoints))
	take(t, a, removed(xds.ClusterType, "ghost"))
	b, err := marshal(a.file())
	if err != nil {
		t.Fatal(err)
	}
	if err := wholefile.Write(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	back := newAccepted(nil)
	if err := readState(path, back); err != nil {
		t.Fatal(err)
	}
	if s := stateOf(back); len(s.Routes) != 1 || len(s.Absent) != 0 {
		t.Errorf("read back %+v", s)
	}
	if got := back.versions(xds.EndpointType)[dest("orders").String()]; got != e.Endpoints.Version {
		t.Errorf("version %q, was %q", got, e.Endpoints.Version)
	}

	if err := os.WriteFile(path, b[:len(b)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := readState(path, back); err == nil || len(stateOf(back).Routes) != 1 {
		t.Errorf("half a file: error %v, and %d routes are left of what was there", err, len(stateOf(back).Routes))
	}
}

func FuzzStateFile(f *testing.F) {
	a := newAccepted(nil)
	e := encode(f, "orders", "10.0.0.1:80", "[fd00::1]:80")
	if _, err := a.take(clusters(e.Cluster)); err != nil {
		f.Fatal(err)
	}
	if _, err := a.take(endpoints(e.Endpoints)); err != nil {
		f.Fatal(err)
	}
	b, err := marshal(a.file())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a := newAccepted(nil)
		if err := a.unmarshal(b); err != nil {
			if len(a.file().Resources)+len(a.routes) > 0 {
				t.Fatal("a broken file left something behind")
			}
			return
		}
		for name := range a.routes {
			if a.resources[xds.ClusterType][name] == nil || a.resources[xds.EndpointType][name] == nil {
				t.Fatalf("route %s has no resources", name)
			}
		}
	})
}

func TestAGatewayThatKnowsOfNoRulesSaysSoAndTheRouteIsComplete(t *testing.T) {
	a := newAccepted(nil)
	e := encode(t, "orders", "10.0.0.1:80")
	take(t, a, clusters(e.Cluster))
	take(t, a, endpoints(e.Endpoints))
	if !take(t, a, removed(xds.RulesType, "orders")) || len(stateOf(a).Routes) != 1 {
		t.Errorf("the state is %+v", stateOf(a))
	}
	if take(t, a, removed(xds.RulesType, "orders")) {
		t.Error("told again, it changed something")
	}
}

func TestTheBackendsOfRulesAreAskedForAndNotTheirBackends(t *testing.T) {
	a := newAccepted(nil)
	put := func(name string, to ...string) {
		r := &mesh.Route{Destination: dest(name), Protocol: mesh.HTTP, Rules: []mesh.Rule{{Name: name, Match: mesh.Match{Path: mesh.PathMatch{Kind: mesh.Prefix, Value: "/"}}}}}
		for _, b := range to {
			r.Rules[0].Action.Backends = append(r.Rules[0].Action.Backends, mesh.Backend{Destination: dest(b), Weight: 1})
		}
		e, err := xds.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		take(t, a, clusters(e.Cluster))
		take(t, a, endpoints(e.Endpoints))
		take(t, a, rules(e.Rules))
	}
	put("orders", "orders-v1", "orders-v2")
	put("orders-v1", "orders-v3")
	subscribed := newSubscriptions()
	subscribed.add([]mesh.Destination{dest("orders")})
	subscribed.lead(a.backends(subscribed.has))
	names := subscribed.clone()
	for name, asked := range map[string]bool{"orders": true, "orders-v1": true, "orders-v2": true, "orders-v3": false} {
		if _, ok := names[dest(name).String()]; ok != asked {
			t.Errorf("%s is asked for: %t", name, ok)
		}
	}
	subscribed.remove([]mesh.Destination{dest("orders")})
	subscribed.lead(a.backends(subscribed.has))
	if names := subscribed.clone(); len(names) != 0 {
		t.Errorf("when nobody asks for the rules, %v are asked for", names)
	}
}

// answered reports whether name has a route or is known not to exist.
func (a *accepted) answered(name string) bool {
	if _, ok := a.routes[name]; ok {
		return true
	}
	_, ok := a.absent[name]
	return ok
}
