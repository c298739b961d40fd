package gateway

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/traffic"
)

func TestRulesAreGivenToTheirDestinationsAndBringTheServiceIntoTheMesh(t *testing.T) {
	name := func(s string) mesh.ServiceName { return mesh.ServiceName{Namespace: "shop", Name: s} }
	var routes []*mesh.Route
	for _, s := range []string{"orders", "dns", "cart"} {
		routes = append(routes,
			&mesh.Route{Destination: mesh.Destination{Service: name(s), Cluster: "east"}, Outside: true, Ports: []mesh.RoutePort{{Number: 80, Protocol: mesh.HTTP}}},
			&mesh.Route{Destination: mesh.Destination{Service: name(s), Cluster: "east", Port: 80}, Protocol: mesh.HTTP})
	}
	before := *routes[1]
	first := routes[1]
	set := &traffic.Set{}
	for _, s := range []string{"orders", "dns"} {
		set.Routes = append(set.Routes, traffic.Route{Kind: traffic.HTTPRoute, Namespace: "shop", Name: s, Parents: []traffic.Parent{{Service: name(s)}}, Rules: []traffic.RouteRule{{}}})
	}
	bindings := applyRules(routes, []mesh.Service{{Name: name("orders")}, {Name: name("dns"), OtherPorts: true}, {Name: name("cart")}}, set, "east")
	if len(bindings.Attached) != 2 || !first.Equal(&before) {
		t.Fatalf("attached %v; a published route was changed: %t", bindings.Attached, !first.Equal(&before))
	}
	for i, want := range []struct {
		outside bool
		rules   int
	}{{false, 0}, {false, 1}, {true, 0}, {false, 1}, {true, 0}, {false, 0}} {
		if r := routes[i]; r.Outside != want.outside || len(r.Rules) != want.rules {
			t.Errorf("%s: outside %t, %d rules; want %+v", r.Destination, r.Outside, len(r.Rules), want)
		}
	}
}
