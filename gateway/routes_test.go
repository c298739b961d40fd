package gateway

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// routesByName returns what sidecars of east are told, by name.
func (f fleet) routesByName() map[string]*mesh.Route {
	routes := map[string]*mesh.Route{}
	for _, r := range routesOf(f.view(), f.local, f.router()) {
		routes[r.Destination.String()] = r
	}
	return routes
}

func instances(es []mesh.Endpoint) (ready, unready []string) {
	for _, e := range es {
		if e.Ready {
			ready = append(ready, e.Instance)
		} else {
			unready = append(unready, e.Instance)
		}
	}
	return ready, unready
}

func TestARouteHasLocalEndpointsAndGatewaysForEverywhereElse(t *testing.T) {
	local := mesh.Service{Name: orders, Ports: []mesh.ServicePort{{Port: 80, Protocol: mesh.HTTP, Endpoints: []mesh.Endpoint{
		{Instance: "orders-1", Ready: true, Identity: "spiffe://m/cluster/east/ns/shop/sa/orders"}, {Instance: "plain"},
	}}}}
	routes := fleet{local: []mesh.Service{local}, far: []farCluster{{name: "west", ready: 1, capacity: 1, rtts: []time.Duration{time.Millisecond}}}}.routesByName()

	any := routes["orders.shop.mesh:80"]
	ready, unready := instances(any.Local)
	if !slices.Equal(ready, []string{"orders-1"}) || !slices.Equal(unready, []string{"plain"}) {
		t.Errorf("local endpoints %v, the unready must be among them", any.Local)
	}
	if ready, _ := instances(any.Gateways); !slices.Equal(ready, []string{"east-1"}) || any.Gateways[0].Address != "10.0.1.1:15443" {
		t.Errorf("gateways %v, want our own, ready", any.Gateways)
	}
	want := []string{"spiffe://m/cluster/east/ns/shop/sa/orders", "spiffe://m/cluster/west/ns/shop/sa/orders"}
	if !slices.Equal(any.Identities, want) || any.Protocol != mesh.HTTP {
		t.Errorf("identities %v protocol %s, want those of both clusters and http", any.Identities, any.Protocol)
	}

	if r := routes["orders.shop.east.mesh:80"]; len(r.Local) != 2 || len(r.Gateways) != 0 || !slices.Equal(r.Identities, want[:1]) {
		t.Errorf("pinned to east: %+v, want nothing of other clusters", r)
	}
	if r := routes["orders.shop.west.mesh:80"]; len(r.Local) != 0 || len(r.Gateways) != 1 || !slices.Equal(r.Identities, want[1:]) {
		t.Errorf("pinned to west: %+v, want nothing of east", r)
	}
}

func TestGatewaysAreNotReadyWhenNoClusterCanServe(t *testing.T) {
	for name, far := range map[string]farCluster{
		"nothing is ready": {name: "west", rtts: []time.Duration{time.Millisecond}},
		"no tunnel":        {name: "west", ready: 1, capacity: 1},
	} {
		r := fleet{far: []farCluster{far}}.routesByName()["orders.shop.mesh:80"]
		if r == nil || len(r.Gateways) != 1 || r.Gateways[0].Ready {
			t.Errorf("%s: %+v, want a gateway that is not ready", name, r)
		}
	}
}

func TestWhatAGatewayCannotReachItsSiblingMay(t *testing.T) {
	route := func(far ...farCluster) (ready, unready []string) {
		return instances(fleet{far: far, siblings: 1}.routesByName()["orders.shop.mesh:80"].Gateways)
	}
	if ready, unready := route(farCluster{name: "west", ready: 1, capacity: 1}); !slices.Equal(ready, []string{"east-2"}) || !slices.Equal(unready, []string{"east-1"}) {
		t.Errorf("without a tunnel %v are ready and %v are not", ready, unready)
	}
	if ready, unready := route(farCluster{name: "west", rtts: []time.Duration{time.Millisecond}}); len(ready) != 0 {
		t.Errorf("without a ready endpoint %v are ready and %v are not", ready, unready)
	}
}

func TestANameWithoutAPortListsThePorts(t *testing.T) {
	local := mesh.Service{Name: orders, Ports: []mesh.ServicePort{{Port: 443, Protocol: mesh.TCP}, {Port: 80, Protocol: mesh.HTTP}}}
	routes := fleet{local: []mesh.Service{local}, far: []farCluster{{name: "west"}}}.routesByName()
	for name, want := range map[string][]mesh.RoutePort{
		"orders.shop.mesh":      {{Number: 80, Protocol: mesh.HTTP}, {Number: 443, Protocol: mesh.TCP}},
		"orders.shop.east.mesh": {{Number: 80, Protocol: mesh.HTTP}, {Number: 443, Protocol: mesh.TCP}},
		"orders.shop.west.mesh": {{Number: 80, Protocol: mesh.HTTP}},
	} {
		r := routes[name]
		if r == nil || !slices.Equal(r.Ports, want) || len(r.Local)+len(r.Gateways) != 0 {
			t.Errorf("%s: %+v, want the ports %v and nothing to dial", name, r, want)
		}
	}
}

func TestTheNameOfAServiceInItsClusterSaysWhetherItIsOutside(t *testing.T) {
	plain := []mesh.ServicePort{{Port: 80, Protocol: mesh.HTTP, Endpoints: []mesh.Endpoint{{Instance: "plain", Ready: true}}}}
	meshed := []mesh.ServicePort{{Port: 80, Protocol: mesh.HTTP, Endpoints: []mesh.Endpoint{{Instance: "a", Identity: "spiffe://m/cluster/east/ns/shop/sa/orders"}}}}
	for _, c := range []struct {
		of      mesh.Service
		outside bool
	}{{mesh.Service{Name: orders, Ports: plain}, true}, {mesh.Service{Name: orders, Ports: meshed}, false}, {mesh.Service{Name: orders, Ports: meshed, OtherPorts: true}, true}} {
		routes := fleet{local: []mesh.Service{c.of}}.routesByName()
		if got := routes["orders.shop.east.mesh"].Outside; got != c.outside {
			t.Errorf("%+v: outside is %v", c.of, got)
		}
		if routes["orders.shop.mesh"].Outside || routes["orders.shop.east.mesh:80"].Outside {
			t.Errorf("%+v: another route says so, too", c.of)
		}
	}
}

func TestTheNameOfAServiceInItsClusterSaysWhatProgramsDialWithoutIt(t *testing.T) {
	ip := []netip.Addr{netip.MustParseAddr("10.43.0.5")}
	meshed := []mesh.ServicePort{{Port: 80, Protocol: mesh.HTTP, Endpoints: []mesh.Endpoint{{Instance: "a", Target: 8080, Identity: "spiffe://m/cluster/east/ns/shop/sa/orders"}}}}
	plain := []mesh.ServicePort{{Port: 80, Protocol: mesh.HTTP, Endpoints: []mesh.Endpoint{{Instance: "plain", Ready: true}}}}
	for _, c := range []struct {
		of   mesh.Service
		want []netip.Addr
	}{
		{mesh.Service{Ports: meshed, Addresses: ip}, ip},
		{mesh.Service{Ports: meshed, Addresses: ip, OtherPorts: true}, ip}, // its name leads there
		{mesh.Service{Ports: plain, Addresses: ip}, nil},
		{mesh.Service{Ports: meshed, Headless: true}, nil},
	} {
		c.of.Name = orders
		routes := fleet{local: []mesh.Service{c.of}}.routesByName()
		if r := routes["orders.shop.east.mesh"]; !slices.Equal(r.Addresses, c.want) || r.Headless != c.of.Headless {
			t.Errorf("%+v: %+v", c.of, r)
		}
		if r := routes["orders.shop.mesh"]; r.Addresses != nil || r.Headless {
			t.Errorf("%+v: of every cluster: %+v", c.of, r)
		}
	}
}

func TestEqualInputsGiveEqualRoutes(t *testing.T) {
	f := fleet{far: []farCluster{{name: "west", ready: 1}, {name: "north", ready: 1}, {name: "south", ready: 1}}}
	first := routesOf(f.view(), f.local, f.router())
	for range 20 {
		if again := routesOf(f.view(), f.local, f.router()); !reflect.DeepEqual(again, first) {
			t.Fatalf("other routes from the same inputs: %v, %v", again, first)
		}
	}
}
