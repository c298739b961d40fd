package controlplane

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestASidecarIsToldRoutesAndAbsencesOnDemand(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	g := serve(t, m.Gateway("east", "east-1"), "", "")
	g.xds.SetRoutes([]*mesh.Route{route("orders", 1), route("cart", 2)}, true)
	s := join(t, config{
		Identity: m.Workload("east", "shop", "web"), Gateways: []string{g.addr}, Subscribe: []mesh.Destination{destination("orders")},
	})
	s.until("the declared route", has("orders", 1))
	if len(s.last.Routes) != 1 {
		t.Errorf("told %d routes, asked for one", len(s.last.Routes))
	}
	s.Subscribe(destination("cart"), destination("ghost"))
	s.until("the route asked for", has("cart", 2))
	s.until("the absence", lacks("ghost"))

	g.xds.SetRoutes([]*mesh.Route{route("orders", 3), route("ghost", 1)}, true)
	s.until("the change", has("orders", 3))
	s.until("the appearance", has("ghost", 1))
	s.until("the removal", lacks("cart"))

	s.Unsubscribe(destination("orders"))
	s.until("the route given up", func(st told) bool { return !has("orders", 3)(st) && !lacks("orders")(st) })
	s.Subscribe(destination("orders"))
	s.until("the route asked for again", has("orders", 3))
}

func TestASidecarStartsFromItsLastAcceptedStateWhenNoGatewayAnswers(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	state := filepath.Join(t.TempDir(), "routes.pb")
	g := serve(t, m.Gateway("east", "east-1"), "", "")
	g.xds.SetRoutes([]*mesh.Route{route("orders", 2), route("cart", 1)}, true)
	cfg := config{
		Identity: m.Workload("east", "shop", "web"), Gateways: []string{g.addr}, Subscribe: []mesh.Destination{destination("orders")}, StatePath: state,
	}
	s := join(t, cfg)
	s.Subscribe(destination("cart")) // on demand: remembered all the same
	s.until("the routes", func(st told) bool { return has("orders", 2)(st) && has("cart", 1)(st) })
	s.stop()
	g.stop()

	s = join(t, cfg)
	s.until("the routes of before", func(st told) bool { return has("orders", 2)(st) && has("cart", 1)(st) })

	// Removal while disconnected; and what is unchanged is not sent again.
	g = serve(t, m.Gateway("east", "east-1"), g.addr, "")
	g.xds.SetRoutes([]*mesh.Route{route("orders", 2)}, true)
	s.until("the removal", lacks("cart"))
	s.until("the route that stayed", has("orders", 2))
}

func TestASidecarGoesToAnotherGatewayWhenItsOwnIsKilledOrFrozen(t *testing.T) {
	for name, fail := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "frozen": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := identitytest.New(t, "mesh.example")
			gateways := map[string]*part{}
			var addrs []string
			for _, gw := range []mesh.GatewayName{"east-1", "east-2"} {
				p := spawn(t, role{Gateway: true, Identity: m.GatewayDir("east", gw), Listen: freeAddr(t), Service: "orders"})
				gateways[p.addr] = p
				addrs = append(addrs, p.addr)
			}
			s := join(t, config{
				Identity: m.Workload("east", "shop", "web"), Gateways: addrs, Subscribe: []mesh.Destination{destination("orders")},
			})
			s.until("the route", has("orders", 1))
			first := s.waitADS(func(addr string) bool { return addr != "" })
			began := time.Now()
			gateways[first].hit(t, fail)
			second := s.waitADS(func(addr string) bool { return addr != "" && addr != first })
			t.Logf("from %s to %s in %s", first, second, time.Since(began).Round(time.Millisecond))
			s.Subscribe(destination("ghost")) // the new one answers
			s.until("the absence", lacks("ghost"))
			s.until("the route kept", has("orders", 1))
		})
	}
}

// waitADS waits until want holds of the gateway that the routes come from.
func (s *sidecar) waitADS(want func(addr string) bool) string {
	s.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		at := ""
		for _, g := range s.Status() {
			if g.ADS {
				at = g.Gateway
			}
		}
		if want(at) {
			return at
		}
	}
	s.t.Fatalf("the gateways are %+v", s.Status())
	return ""
}

func TestARegistrationLivesAsLongAsItsSidecar(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	g := serve(t, m.Gateway("east", "east-1"), "", "")
	dir := m.WorkloadDir("east", "shop", "orders")
	for _, fail := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGTERM} {
		t.Run(fail.String(), func(t *testing.T) {
			p := spawn(t, role{Identity: dir, Gateways: []string{g.addr}, Instance: "orders-1"})
			e := g.instances("the registration", count(1))[0]
			if want := (mesh.Endpoint{
				Instance: "orders-1", Address: "127.0.0.1:15008", Ready: true, Weight: 1,
				Identity: "spiffe://mesh.example/cluster/east/ns/shop/sa/orders",
			}); e != want {
				t.Errorf("registered as %+v, want %+v", e, want)
			}
			began := time.Now()
			p.hit(t, fail)
			g.instances("its end", count(0))
			t.Logf("gone after %s", time.Since(began).Round(time.Millisecond))
			if fail == syscall.SIGSTOP { // it comes back by itself
				p.hit(t, syscall.SIGCONT)
				g.instances("the return", count(1))
				p.Kill()
				g.instances("its end", count(0))
			}
		})
	}
}

func TestASidecarRegistersWithEveryGatewayAndAgainAfterARestart(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	state := t.TempDir()
	one := serve(t, m.Gateway("east", "east-1"), "", state)
	two := serve(t, m.Gateway("east", "east-2"), "", "")
	s := join(t, config{Identity: m.Workload("east", "shop", "orders"), Gateways: []string{one.addr, two.addr}})
	s.Register(registrationOf("orders-1"))
	one.instances("the registration", count(1))
	two.instances("the registration", count(1))

	down := registrationOf("orders-1")
	down.Ready = false
	s.Register(down)
	one.instances("that it is not ready", func(e []mesh.Endpoint) bool { return len(e) == 1 && !e[0].Ready })

	one.stop()
	one = serve(t, m.Gateway("east", "east-1"), one.addr, state)
	one.instances("the registration after the restart", count(1))

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.registrar.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	for _, g := range []*gateway{one, two} {
		if services, _ := g.reg.Snapshot(); len(services) != 0 {
			t.Errorf("withdrawn and confirmed, yet there are %+v", services)
		}
	}
}

func TestAGatewayThatRestartsSaysUnknownUntilItsSidecarsAreBack(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	state := t.TempDir()
	g := serve(t, m.Gateway("east", "east-1"), "", state)
	s := join(t, config{Identity: m.Workload("east", "shop", "orders"), Gateways: []string{g.addr}})
	s.Register(registrationOf("orders-1"))
	g.instances("the registration", count(1))
	waitFor(t, func() bool {
		return strings.Contains(readFile(t, filepath.Join(state, "registrations.json")), "orders-1")
	})
	s.stop() // and does not come back for now
	g.stop()

	g = serve(t, m.Gateway("east", "east-1"), g.addr, state)
	if services, _ := g.reg.Snapshot(); services != nil {
		t.Fatalf("says %+v before anybody could have come back", services)
	}
	s = join(t, config{Identity: m.Workload("east", "shop", "orders"), Gateways: []string{g.addr}})
	s.Register(registrationOf("orders-1"))
	g.instances("the registration", count(1))
}

func TestARegistrationOfAnotherWorkloadsServiceIsRefused(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	g := serve(t, m.Gateway("east", "east-1"), "", "")
	orders := join(t, config{Identity: m.Workload("east", "shop", "orders"), Gateways: []string{g.addr}})
	orders.Register(registrationOf("orders-1"))
	g.instances("the registration", count(1))

	for name, c := range map[string]struct {
		namespace, account, address, want string
	}{
		"another namespace": {"bank", "orders", ":15008", "may only register services of its own namespace"},
		"another account":   {"shop", "web", ":15008", "write serves: [web] into the spec of the Service shop/orders"},
		"no address":        {"shop", "orders", "0.0.0.0:15008", "nobody can dial it"},
	} {
		s := join(t, config{Identity: m.Workload("east", c.namespace, c.account), Gateways: []string{g.addr}})
		r := registrationOf("orders-1")
		r.Address = c.address
		s.Register(r)
		waitFor(t, func() bool { return s.Status()[0].Registration(destination("orders")).Error != "" })
		if got := s.Status()[0].Registration(destination("orders")); got.Held || !got.Refused || !strings.Contains(got.Error, c.want) {
			t.Errorf("%s: %+v, want an error with %q", name, got, c.want)
		}
	}
	if e := g.instances("the first", count(1)); e[0].Address != "127.0.0.1:15008" {
		t.Errorf("the first was replaced by %+v", e[0])
	}
}

func TestASidecarTrustsOnlyGatewaysOfItsOwnCluster(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	foreign := serve(t, m.Gateway("west", "west-1"), "", "")
	foreign.xds.SetRoutes([]*mesh.Route{route("orders", 1)}, true)
	s := join(t, config{
		Identity: m.Workload("east", "shop", "web"), Gateways: []string{foreign.addr}, Subscribe: []mesh.Destination{destination("orders")},
	})
	waitFor(t, func() bool { return strings.Contains(s.Status()[0].LastError(), "west") })
	if len(s.states) != 0 {
		t.Error("took a state from it")
	}
}

func TestGarbageOnTheXDSPortHarmsNobody(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	g := serve(t, m.Gateway("east", "east-1"), "", "")
	g.xds.SetRoutes([]*mesh.Route{route("orders", 1)}, true)
	for _, garbage := range []string{"", "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", strings.Repeat("\x16\x03\x01\xff\xff", 5000)} {
		c, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte(garbage)) // may be cut off
		c.Close()
	}
	s := join(t, config{
		Identity: m.Workload("east", "shop", "web"), Gateways: []string{g.addr}, Subscribe: []mesh.Destination{destination("orders")},
	})
	s.until("the route", has("orders", 1))
}
