package xds

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

func TestASubscriberIsToldWhatItAskedForAndNothingElse(t *testing.T) {
	g := start(t, identitytest.New(t, "mesh.example"), "", routeTo("orders", 1), routeTo("cart", 1), routeTo("pay", 1))
	c := g.dial("web")
	c.subscribe("orders", "cart")
	c.expect([]string{"cart", "orders"}, nil)

	g.publish(routeTo("orders", 1), routeTo("cart", 1), routeTo("pay", 2))
	g.publish(routeTo("orders", 2), routeTo("cart", 1), routeTo("pay", 2))
	c.expect([]string{"orders"}, nil)
	c.quiet()
}

func TestANameThatDoesNotExistIsSaidToBeAbsentAtOnceAndOnce(t *testing.T) {
	g := start(t, identitytest.New(t, "mesh.example"), "", routeTo("orders", 1))
	c := g.dial("web")
	c.subscribe("cart")
	c.expect(nil, []string{"cart"})
	c.quiet()

	g.publish(routeTo("orders", 2)) // something else changes
	c.quiet()

	g.publish(routeTo("orders", 2), routeTo("cart", 1))
	c.expect([]string{"cart"}, nil)
	g.publish(routeTo("orders", 2))
	c.expect(nil, []string{"cart"})
	g.publish(routeTo("orders", 3))
	c.quiet()
}

func TestARemovalWhileDisconnectedIsToldOnReconnecting(t *testing.T) {
	g := start(t, identitytest.New(t, "mesh.example"), "", routeTo("orders", 1), routeTo("cart", 1))
	c := g.dial("web")
	c.subscribe("orders", "cart")
	held := map[string]string{}
	for _, r := range c.expect([]string{"cart", "orders"}, nil).Resources {
		held[r.Name] = r.Version
	}
	c.close()
	g.publish(routeTo("orders", 1))

	c = g.dial("web")
	c.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: resourceNames([]string{"orders", "cart"}), InitialResourceVersions: held})
	c.expect(nil, []string{"cart"})
	c.quiet()
}

func TestARemovalWhileDisconnectedIsToldToAWildcardSubscriberToo(t *testing.T) {
	g := start(t, identitytest.New(t, "mesh.example"), "", routeTo("orders", 1))
	c := g.dial("web")
	c.send(&discoveryv3.DeltaDiscoveryRequest{
		ResourceNamesSubscribe:  []string{"*"},
		InitialResourceVersions: map[string]string{service("cart").String(): "long ago", service("orders").String(): "long ago"},
	})
	c.expect([]string{"orders"}, []string{"cart"})
}

func TestUnsubscribingAndSubscribingAgainResends(t *testing.T) {
	g := start(t, identitytest.New(t, "mesh.example"), "", routeTo("orders", 1))
	c := g.dial("web")
	c.subscribe("orders")
	c.expect([]string{"orders"}, nil)
	c.unsubscribe("orders")
	c.expect(nil, nil)
	g.publish(routeTo("orders", 2)) // not told: nobody asks
	c.quiet()
	c.subscribe("orders")
	c.expect([]string{"orders"}, nil)

	// A client may also drop it and ask again without ever saying so.
	c.subscribe("orders")
	c.expect([]string{"orders"}, nil)
}

func TestVersionsSurviveARestartOfTheGateway(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	held := map[string]string{}
	c := start(t, m, "", routeTo("orders", 1), routeTo("cart", 2)).dial("web")
	c.subscribe("orders", "cart")
	for _, r := range c.expect([]string{"cart", "orders"}, nil).Resources {
		held[r.Name] = r.Version
	}

	c = start(t, m, "", routeTo("orders", 1), routeTo("cart", 1)).dial("web")
	c.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: resourceNames([]string{"orders", "cart"}), InitialResourceVersions: held})
	c.expect([]string{"cart"}, nil)
	c.quiet()
}

func TestAGatewayThatKnowsNothingYetSaysSoInsteadOfAbsent(t *testing.T) {
	g := start(t, identitytest.New(t, "mesh.example"), "")
	c := g.dial("web")
	select {
	case err := <-c.ended:
		if status.Code(err) != codes.FailedPrecondition {
			t.Fatalf("ended with %v, want FAILED_PRECONDITION", err)
		}
	case <-time.After(patience):
		t.Fatal("the stream was not refused")
	}
	g.publish()
	c = g.dial("web")
	c.subscribe("orders")
	c.expect(nil, []string{"orders"})
}

func TestTheScopeIsTheIdentityOfTheConnectionAndNotTheNode(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	state := filepath.Join(t.TempDir(), "asked.json")
	g := start(t, m, state, routeTo("orders", 1), routeTo("cart", 1))
	web := g.dial("web")
	web.subscribe("orders")
	web.expect([]string{"orders"}, nil)

	other := g.dial("other")
	other.send(&discoveryv3.DeltaDiscoveryRequest{Node: node("spiffe://mesh.example/cluster/east/ns/shop/sa/web"), ResourceNamesSubscribe: []string{"*"}})
	other.expect(nil, nil)

	again := g.dial("web")
	again.send(&discoveryv3.DeltaDiscoveryRequest{}) // Envoy's wildcard
	again.expect([]string{"orders"}, nil)
	web.subscribe("cart") // what one stream of an identity asks for, its wildcard hears of
	web.expect([]string{"cart"}, nil)
	again.expect([]string{"cart"}, nil)

	if err := g.memory.saver.Save(); err != nil {
		t.Fatal(err)
	}
	restarted := start(t, m, state, routeTo("orders", 1))
	c := restarted.dial("web")
	c.subscribe("*")
	c.expect([]string{"orders"}, nil)
}

func TestAnEnvoyIsAnsweredForTypesOfWhichNothingExists(t *testing.T) {
	g := start(t, identitytest.New(t, "mesh.example"), "", routeTo("orders", 1))
	c := g.dial("web")
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: "type.googleapis.com/envoy.config.listener.v3.Listener"})
	c.expect(nil, nil)
	for _, unknown := range []string{"type.googleapis.com/made.up", "type.googleapis.com/envoy.of.tomorrow"} {
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: unknown, ResourceNamesSubscribe: []string{"anything"}})
		if resp := c.next(); len(resp.Resources) != 0 || resp.TypeUrl != unknown {
			t.Errorf("answered %v", resp)
		}
	}
	c.subscribe("orders") // and the stream goes on
	c.expect([]string{"orders"}, nil)
}

func TestWhatIsTooMuchForOneResponseComesInSeveral(t *testing.T) {
	routes := []*mesh.Route{}
	names := []string{}
	for _, name := range []string{"a", "b", "c", "d"} {
		r := routeTo(name, 0)
		for range 4000 {
			r.Local = append(r.Local, mesh.Endpoint{Instance: strings.Repeat("x", 40), Address: "10.0.0.1:80", Weight: 1})
		}
		routes = append(routes, r)
		names = append(names, name)
	}
	g := start(t, identitytest.New(t, "mesh.example"), "", routes...)
	c := g.dial("web")
	c.subscribe(names...)
	got := map[string]int{}
	responses := 0
	for len(got) < len(names) {
		for _, r := range c.next().Resources {
			got[r.Name]++
		}
		responses++
	}
	if responses < 2 {
		t.Errorf("%d response", responses)
	}
	for name, n := range got {
		if n != 1 {
			t.Errorf("%s was sent %d times", name, n)
		}
	}
	c.quiet()
}

func TestOnlyWorkloadsOfTheOwnClusterAreServed(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	g := start(t, m, "", routeTo("orders", 1))
	foreign := identitytest.New(t, "elsewhere.example")
	for name, c := range map[string]*client{
		"another cluster's workload": g.dialAs(m.Workload("west", "shop", "web")),
		"a gateway":                  g.dialAs(m.Gateway("east", "east-2")),
		"another trust domain":       g.dialAs(foreign.Workload("east", "shop", "web")),
	} {
		select {
		case err := <-c.ended:
			if status.Code(err) != codes.Unavailable {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(patience):
			t.Errorf("%s was let in", name)
		}
	}
}

func TestACAOfTheClusterHearsOfNoRoutes(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	g := start(t, m, "", routeTo("orders", 1))
	cred, err := m.Cluster("east").IssueCA("ca-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := cred.Source()
	if err != nil {
		t.Fatal(err)
	}
	c := g.dialAs(id)
	select {
	case err := <-c.ended:
		if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "cluster/east/ca/ca-1 has no routes") {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("it was let in")
	}
}

func TestTheStateOfTheWorldProtocolIsServedToo(t *testing.T) {
	g := start(t, identitytest.New(t, "mesh.example"), "", routeTo("orders", 1), routeTo("cart", 1))
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(g.connect(g.mesh.Workload("east", "shop", "web"))).StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(resp *discoveryv3.DiscoveryResponse, names ...string) *discoveryv3.DiscoveryResponse {
		t.Helper()
		if err := stream.Send(&discoveryv3.DiscoveryRequest{
			TypeUrl: xds.ClusterType, ResourceNames: resourceNames(names), VersionInfo: resp.GetVersionInfo(), ResponseNonce: resp.GetNonce(),
		}); err != nil {
			t.Fatal(err)
		}
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	first := ask(nil, "orders", "absent")
	if len(first.Resources) != 1 {
		t.Fatalf("%d resources, want orders", len(first.Resources))
	}
	second := ask(first, "orders", "cart")
	if len(second.Resources) != 2 || second.VersionInfo == first.VersionInfo {
		t.Fatalf("%d resources in version %s after %s, want orders and cart", len(second.Resources), second.VersionInfo, first.VersionInfo)
	}
}

func TestShutdownEndsEveryStreamAndRefusesNewOnes(t *testing.T) {
	g := start(t, identitytest.New(t, "mesh.example"), "", routeTo("orders", 1))
	c := g.dial("web")
	c.subscribe("orders")
	c.expect([]string{"orders"}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := g.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if n := g.streams.open.Len(); n != 0 {
		t.Errorf("%d streams are left", n)
	}
	if conn, err := net.DialTimeout("tcp", g.addr, time.Second); err == nil {
		conn.Close()
		t.Error("still listening")
	}
}

func TestWhileNotAllIsKnownWhatIsKnownIsToldAndNothingIsCalledAbsent(t *testing.T) {
	g := start(t, identitytest.New(t, "mesh.example"), "")
	g.SetRoutes([]*mesh.Route{routeTo("orders", 1)}, false)
	for !g.Serves() {
		time.Sleep(time.Millisecond)
	}
	c := g.dial("web")
	c.subscribe("orders", "cart")
	c.expect([]string{"orders"}, nil)
	alone := g.dial("alone")
	alone.subscribe("cart") // not even an empty answer: it says that what is held is current
	listeners := "type.googleapis.com/envoy.config.listener.v3.Listener"
	alone.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: listeners})
	if resp := alone.next(); resp.TypeUrl != listeners {
		t.Fatalf("told %v", resp)
	}
	g.SetRoutes([]*mesh.Route{routeTo("orders", 1)}, true)
	c.expect(nil, []string{"cart"})
	alone.expect(nil, []string{"cart"})
}
