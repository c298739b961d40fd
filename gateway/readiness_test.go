package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

// patience bounds every wait of these tests; it is reached only by a failure.
const patience = time.Minute

// running is a gateway that runs until the test ends.
func running(t *testing.T, cfg *config.Gateway, id *identity.Source) *Gateway {
	t.Helper()
	g, err := New(cfg, Options{Log: slog.New(slog.DiscardHandler), Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	run(t, g)
	return g
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

// pending returns why a condition of readiness does not hold; empty: it does.
func (g *Gateway) pending(name string) string {
	for _, c := range g.ready.Unmet() {
		if c.Name == name {
			return c.Reason
		}
	}
	return ""
}

// freePort is a UDP address of loopback that nobody uses.
func freePort(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().String()
}

// connectTo asks the gateway for a path and returns the answer's status line.
func connectTo(t *testing.T, g *Gateway, authority string) string {
	t.Helper()
	c, err := net.Dial("tcp", g.mesh.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", authority, authority)
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestAGatewayThatHasMetNobodySaysSoAndCallsNothingAbsent(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	far := freePort(t)
	cfg := lone(t)
	cfg.State, cfg.Join = "", []string{far}
	g := running(t, cfg, m.Gateway("east", "east-1"))
	until(t, "ADS is served after the time to join", func() bool { return g.pending("routes") == "" })
	if why := g.pending("join"); !strings.Contains(why, far) {
		t.Errorf("join is met, or says no address: %q", why)
	}
	if got := connectTo(t, g, "orders.shop.mesh:80"); !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.Contains(got, metNobody) || !strings.Contains(got, "Cache-Control: no-store") {
		t.Errorf("answered %q", got)
	}

	west := lone(t)
	west.Cluster, west.Name, west.State, west.Listen.Tunnel = "west", "west-1", "", far
	west.Advertise = far
	running(t, west, m.Gateway("west", "west-1"))
	until(t, "join is met", func() bool { return g.pending("join") == "" })
	until(t, "what nobody has is unknown", func() bool {
		return strings.HasPrefix(connectTo(t, g, "orders.shop.mesh:80"), "HTTP/1.1 404 ")
	})
}

func TestASecondGatewayOfOneNameIsNotReady(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	west := lone(t)
	west.Cluster, west.Name, west.State, west.Listen.Tunnel = "west", "west-1", "", freePort(t)
	west.Advertise = west.Listen.Tunnel
	running(t, west, m.Gateway("west", "west-1"))

	var gateways []*Gateway
	for range 2 {
		cfg := lone(t)
		cfg.State, cfg.Listen.Tunnel, cfg.Join = "", freePort(t), []string{west.Advertise}
		cfg.Advertise = cfg.Listen.Tunnel
		g := running(t, cfg, m.Gateway("east", "east-1"))
		gateways = append(gateways, g)
		if len(gateways) == 1 {
			until(t, "the first is ready", func() bool { return len(g.ready.Unmet()) == 0 })
		}
	}
	until(t, "the second one says that its name is taken", func() bool {
		return strings.Contains(gateways[1].pending("name"), "another live gateway is called east/east-1")
	})
	if unmet := gateways[0].ready.Unmet(); len(unmet) > 0 {
		t.Errorf("the first one is not ready any more: %v", unmet)
	}
}

func TestAGatewayIsReadyOnceItServesSidecarsAndNotWhenItsCertificateHasExpired(t *testing.T) {
	t.Parallel()
	m := identitytest.New(t, "mesh.example")
	short, err := m.Cluster("east").Issue(identity.Request{ID: identity.ID{Gateway: "east-1"}, TTL: 6 * time.Second}) // it must be ready before
	if err != nil {
		t.Fatal(err)
	}
	id, err := short.Source()
	if err != nil {
		t.Fatal(err)
	}
	cfg := lone(t)
	cfg.Join = []string{cfg.Advertise} // one list for all gateways
	g := running(t, cfg, id)
	until(t, "it is ready", func() bool { return len(g.ready.Unmet()) == 0 })
	if !g.xds.Serves() {
		t.Error("ready before sidecars are served")
	}
	until(t, "it says that its certificate has expired", func() bool { return strings.Contains(g.pending("certificate"), "expired at") })
}

func TestAGatewayWhoseResourceFolderCannotBeReadSaysSo(t *testing.T) {
	cfg := lone(t)
	cfg.Resources = filepath.Join(t.TempDir(), "resources")
	if err := os.Mkdir(cfg.Resources, 0o700); err != nil {
		t.Fatal(err)
	}
	g := running(t, cfg, identitytest.New(t, "mesh.example").Gateway("east", "east-1"))
	until(t, "it is ready", func() bool { return len(g.ready.Unmet()) == 0 })
	if err := os.Remove(cfg.Resources); err != nil {
		t.Fatal(err)
	}
	until(t, "it says that the folder is gone", func() bool { return strings.Contains(g.pending("resources"), cfg.Resources) })
	if err := os.Mkdir(cfg.Resources, 0o700); err != nil {
		t.Fatal(err)
	}
	until(t, "the folder is back", func() bool { return g.pending("resources") == "" })
}

func TestAProgramThatRestartsIsUnavailableAndNotUnknown(t *testing.T) {
	program := httptest.NewServer(http.NotFoundHandler())
	defer program.Close()
	cfg := lone(t)
	cfg.Resources = t.TempDir()
	file := filepath.Join(cfg.Resources, "orders.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, `apiVersion: isthmus.io/v1alpha1
kind: Service
metadata: {namespace: shop, name: orders}
spec:
  ports: [{port: 80, protocol: http}]
  endpoints: [{address: %q}]
`, program.Listener.Addr()), 0o600); err != nil {
		t.Fatal(err)
	}
	g := running(t, cfg, identitytest.New(t, "mesh.example").Gateway("east", "east-1"))
	until(t, "the service is offered", func() bool { return g.router.Load().local[orders] != nil })
	if err := testutil.GatherAndCompare(g.registry, strings.NewReader(`
		# HELP isthmus_service_endpoints_ready Endpoints that answer, as their cluster says; of a cluster out of reach the last that it said.
		# TYPE isthmus_service_endpoints_ready gauge
		isthmus_service_endpoints_ready{cluster="east",port="80",service="shop/orders"} 1
	`), "isthmus_service_endpoints_ready"); err != nil {
		t.Error(err)
	}
	if said, err := testutil.GatherAndLint(g.registry); err != nil || len(said) > 0 {
		t.Errorf("metrics are not named as Prometheus expects: %v, %v", said, err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	until(t, "it is not offered any more", func() bool { return g.router.Load().local[orders] == nil })
	if got := connectTo(t, g, "orders.shop.mesh:80"); !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.Contains(got, "nobody offers orders.shop.mesh:80 any more") {
		t.Errorf("answered %q", got)
	}
	if got := connectTo(t, g, "cart.shop.mesh:80"); !strings.HasPrefix(got, "HTTP/1.1 404 ") {
		t.Errorf("what never was is answered %q", got)
	}
}

// West, the far only gateway, was restarted first and said goodbye; then east, which
// joins nobody, before it had heard of west again.
func TestARestartedGatewayThatJoinsNobodyCallsNothingAbsentBeforeItMeetsWhomItKnew(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	east := lone(t)
	east.Listen.Tunnel = freePort(t)
	east.Advertise = east.Listen.Tunnel
	west := lone(t)
	west.Cluster, west.Name, west.Listen.Tunnel, west.Join = "west", "west-1", freePort(t), []string{east.Advertise}
	west.Advertise = west.Listen.Tunnel
	// start runs a gateway until the second that it returns is called, or the test ends.
	start := func(cfg *config.Gateway) (*Gateway, func()) {
		g, err := New(cfg, Options{Log: slog.New(slog.DiscardHandler), Identity: m.Gateway(cfg.Cluster, cfg.Name)})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		ctx, cancel := context.WithCancel(context.Background())
		go func() { ended <- g.Run(ctx) }()
		stop := sync.OnceFunc(func() {
			said := g.Shutdown(context.Background())
			cancel()
			if err := errors.Join(said, <-ended); err != nil {
				t.Error(err)
			}
		})
		t.Cleanup(stop)
		until(t, "it runs", g.wired.Load)
		return g, stop
	}
	was, stopEast := start(east)
	_, stopWest := start(west)
	until(t, "east knows west", func() bool { view, _ := was.federation.View(); return view.Met() })
	if got := connectTo(t, was, "orders.shop.mesh:80"); !strings.HasPrefix(got, "HTTP/1.1 404 ") {
		t.Errorf("alone and first it answered %q", got)
	}
	stopWest()
	until(t, "west has left", func() bool { view, _ := was.federation.View(); return !view.Met() })
	stopEast()

	g, _ := start(east)
	until(t, "it is ready, though it has met nobody", func() bool { return len(g.ready.Unmet()) == 0 })
	if got := connectTo(t, g, "orders.shop.mesh:80"); !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.Contains(got, metNoneYet) {
		t.Errorf("answered %q", got)
	}
	start(west)
	until(t, "what nobody has is unknown", func() bool {
		return strings.HasPrefix(connectTo(t, g, "orders.shop.mesh:80"), "HTTP/1.1 404 ")
	})
}
