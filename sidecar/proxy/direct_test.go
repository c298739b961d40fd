package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
)

// orders2 says whose address is meant: always the second instance's.
func orders2(context.Context, netip.AddrPort) (routes.Direct, bool) {
	return routes.Direct{Destination: dest, Instance: "orders-2"}, true
}

func TestAConnectionToAnInstancesAddressReachesItAloneReadyOrNot(t *testing.T) {
	w := newWorld(t)
	says := func(name string) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, name, " at ", r.Host) })
	}
	r := route(mesh.HTTP, w.web("east", "orders-1", says("orders-1")), w.web("east", "orders-2", says("orders-2")))
	r.Local[1].Ready = false
	r.Rules = []mesh.Rule{} // of the service: none matches. Not of an instance
	i := w.interceptWith(orders2, r)
	c := i.client(t, "127.0.0.5")
	for range 20 {
		if code, body := get(t, c, "http://10.42.0.7:8080/"); code != 200 || body != "orders-2 at 10.42.0.7:8080" {
			t.Fatalf("%d %q", code, body)
		}
	}
	until(t, "20 requests are counted for the service", func() bool { // each a moment after its answer
		return i.count(t, "isthmus_requests_total", "destination=orders.shop.mesh:80") == 20
	})
}

func TestAnInstanceThatIsNotThereIsNoOther(t *testing.T) {
	w := newWorld(t)
	there := w.web("east", "orders-1", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another instance was called") }))
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := mesh.Endpoint{Instance: "orders-2", Address: dead.Addr().String(), Ready: true, Weight: 1, Identity: there.Identity}
	_ = dead.Close()
	for name, r := range map[string]*mesh.Route{"it is dead": route(mesh.HTTP, there, gone), "the route does not know it": route(mesh.HTTP, there)} {
		if code, body := get(t, w.interceptWith(orders2, r).client(t, "127.0.0.5"), "http://10.42.0.7:8080/"); code < 500 {
			t.Errorf("%s: %d %q", name, code, body)
		}
	}
}

func TestABytesConnectionToAnInstancesAddressReachesIt(t *testing.T) {
	w := newWorld(t)
	says := func(name string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, name)
				_ = c.Close()
			}
		}()
		return l.Addr().String()
	}
	i := w.interceptWith(orders2, route(mesh.TCP,
		w.instance("east", "orders-1", says("orders-1"), mesh.TCP), w.instance("east", "orders-2", says("orders-2"), mesh.TCP)))
	for range 10 {
		if b, err := io.ReadAll(i.mustDial(t, "127.0.0.5")); string(b) != "orders-2" || err != nil {
			t.Fatalf("%q, %v", b, err)
		}
	}
}

func TestACapturedConnectionThatIsNotTheMeshsGoesWhereItWanted(t *testing.T) {
	w := newWorld(t)
	there := w.program(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprint(rw, "there ", r.Header.Get("X-Forwarded-Proto"))
	}))
	destinations["127.0.0.6"] = netip.MustParseAddrPort(there)
	t.Cleanup(func() { delete(destinations, "127.0.0.6") })
	i := w.interceptWith(func(_ context.Context, to netip.AddrPort) (routes.Direct, bool) { return routes.Direct{}, false })
	if code, body := get(t, i.client(t, "127.0.0.6"), "http://there/"); code != 200 || body != "there " {
		t.Errorf("%d %q", code, body)
	}
	if n := i.count(t, "isthmus_captured_connections_total", "result=passed"); n != 1 {
		t.Errorf("passed: %v", n)
	}
}
