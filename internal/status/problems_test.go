package status

import (
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var (
	now   = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	valid = Certificate{NotAfter: now.Add(time.Hour), WarnFrom: now.Add(30 * time.Minute)}
	east1 = mesh.GatewayID{Cluster: "east", Name: "east-1"}
	west1 = mesh.GatewayID{Cluster: "west", Name: "west-1"}
	shop  = mesh.ServiceName{Namespace: "shop", Name: "orders"}
)

func gatewayThatIsWell() Gateway {
	return Gateway{
		Self: east1, Ready: true, Certificate: valid,
		Gateways: []Peer{{ID: east1, Tunnel: "self"}, {ID: west1, Tunnel: "up"}},
		Services: []Service{{shop, []ClusterService{{Cluster: "east", Port: 80, Protocol: "http"}, {Cluster: "west", Port: 80, Protocol: "http"}}}},
	}
}

func TestAVerdictSaysHowMuchThereIsOrWhatIsWrong(t *testing.T) {
	g := gatewayThatIsWell()
	if got := g.Verdict(now); got != "2 clusters, 2 gateways, 1 service: nothing is wrong" {
		t.Error(got)
	}
	g.Gateways[1].Tunnel, g.Gateways[1].LastError = "down", "no answer"
	if got := g.Verdict(now); got != "2 clusters, 1 tunnel down: west/west-1 (no answer)" {
		t.Error(got)
	}
}

func TestEverythingThatIsWrongWithAMeshIsAProblem(t *testing.T) {
	for want, spoil := range map[string]func(*Gateway){
		"not ready: services (not known)":                                  func(g *Gateway) { g.Pending = []Condition{{"services", "not known"}} },
		"its certificate ended 2026-11-26T11:59:59Z":                       func(g *Gateway) { g.Certificate.NotAfter = now.Add(-time.Second) },
		"its certificate ends 2026-11-26T12:05:00Z":                        func(g *Gateway) { g.Certificate.NotAfter, g.Certificate.WarnFrom = now.Add(5*time.Minute), now },
		"what it knows is not kept on disk: full":                          func(g *Gateway) { g.StateError = "full" },
		"not reloaded, the old configuration stays in force: a.yaml:3: no": func(g *Gateway) { g.Reload = &Reload{Error: "a.yaml:3: no"} },
		"reloaded: drain; these keys wait for a restart: listen.admin": func(g *Gateway) {
			g.Reload = &Reload{Changed: []string{"drain"}, Restart: []string{"listen.admin"}}
		},
		"1 tunnel down: west/west-1 (gone)":                         func(g *Gateway) { g.Gateways[1].Tunnel, g.Gateways[1].LastError = "down", "gone" },
		"nobody met at h:1 (refused)":                               func(g *Gateway) { g.Join = []JoinTarget{{Address: "h:1", LastError: "refused"}} },
		"other clusters cannot dial this gateway: no load balancer": func(g *Gateway) { g.NoAddress = "no load balancer" },
		"the catalog of west/west-1 is stale":                       func(g *Gateway) { g.Origins = []Origin{{Origin: west1, Stale: true, Age: 10}} },
		"of cluster west nothing counts here: it offers nothing that imports names; [] says that nothing is wanted": func(g *Gateway) { g.NothingImported = []mesh.ClusterName{"west"} },
		"resource file a.yaml is bad: a.yaml:1: no":                                                                 func(g *Gateway) { g.Faults = []ResourceFault{{"a.yaml", "a.yaml:1: no"}} },
		"resource file a.yaml is bad: a.yaml:1: no, a.yaml:2: no":                                                   func(g *Gateway) { g.Faults = []ResourceFault{{"a.yaml", "a.yaml:1: no\na.yaml:2: no"}} },
		"2 resource files are bad: a.yaml, b.yaml": func(g *Gateway) {
			g.Faults = []ResourceFault{{"a.yaml", "a.yaml:1: no"}, {"b.yaml", "b.yaml:1: no"}}
		},
		"4 services left out of what other clusters are told: shop/orders, shop/orders, shop/orders and 1 more": func(g *Gateway) {
			g.LeftOut = []mesh.ServiceName{shop, shop, shop, shop}
		},
		`spiffe://m/sa/web may not register as "shop/orders": write serves`: func(g *Gateway) {
			g.Refused = []RefusedRegistration{{Peer: "spiffe://m/sa/web", Service: "shop/orders", Error: "write serves"}}
		},
		`2 registrations are refused: "shop/orders" by spiffe://m/sa/web, "shop/cart" by spiffe://m/sa/web`: func(g *Gateway) {
			g.Refused = []RefusedRegistration{{Peer: "spiffe://m/sa/web", Service: "shop/orders"}, {Peer: "spiffe://m/sa/web", Service: "shop/cart"}}
		},
		"no newer certificate, the last good one stays in use: no key": func(g *Gateway) { g.Certificate.Error = "no key" },
		"AuthorizationPolicy shop/a rules[1] asks about requests, and shop/orders has endpoints without a sidecar, whose requests nobody sees: there it does not allow (and 1 more)": func(g *Gateway) {
			r := UnjudgedRule{Service: g.Services[0].Service, Policy: "AuthorizationPolicy shop/a", Rule: 1, Action: "allow"}
			g.Unjudged = []UnjudgedRule{r, r}
		},
		"HTTPRoute shop/orders is not in force as it is written for shop/orders: no such backend": func(g *Gateway) {
			g.Routes = []BadRoute{{Route: "HTTPRoute shop/orders", Parent: g.Services[0].Service, Error: "no such backend"}}
		},
		"2 routes are not in force as they are written: HTTPRoute shop/a, GRPCRoute shop/b": func(g *Gateway) {
			g.Routes = []BadRoute{{Route: "HTTPRoute shop/a"}, {Route: "GRPCRoute shop/b"}}
		},
		"port 80 of shop/orders is http in east, tcp in west: only what east says counts here": func(g *Gateway) {
			g.Conflicts = []Conflict{{Service: g.Services[0].Service, Port: 80, InForce: "east", Protocols: map[mesh.ClusterName]mesh.Protocol{"east": "http", "west": "tcp"}}}
		},
	} {
		g := gatewayThatIsWell()
		spoil(&g)
		if got := strings.Join(g.Problems(now), "\n"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestACatalogThatIsBeingFetchedIsNoProblem(t *testing.T) {
	g := gatewayThatIsWell()
	g.Origins = []Origin{{Origin: west1, Stale: true, Age: 1}}
	if got := g.Problems(now); len(got) != 0 {
		t.Error(got)
	}
}

func TestEverythingThatIsWrongWithASidecarIsAProblem(t *testing.T) {
	for want, spoil := range map[string]func(*Sidecar){
		"":                             func(s *Sidecar) { s.Reload = &Reload{Changed: []string{"upstreams"}} },
		"not ready: program (refused)": func(s *Sidecar) { s.Pending = []Condition{{"program", "refused"}} },
		"not ready: registration (no gateway holds it: h:15012: write serves)": func(s *Sidecar) {
			s.Pending = []Condition{{"registration", "no gateway holds it: h:15012: write serves"}}
			s.Gateways[0].Registered, s.Gateways[0].LastError = false, "write serves"
		},
		"gateway h:15012: refused":                          func(s *Sidecar) { s.Gateways[0].LastError = "refused" },
		"gateway h:15012 does not know of shop/orders here": func(s *Sidecar) { s.Gateways[0].Registered = false },
		"no cluster offers orders.shop.mesh:80":             func(s *Sidecar) { s.Upstreams[0].State = "absent" },
		"nothing is known of orders.shop.mesh:80 yet":       func(s *Sidecar) { s.Upstreams[0].State = "pending" },
		"no instance of orders.shop.mesh:80 is ready":       func(s *Sidecar) { s.Upstreams[0].Gateways[0].Ready = false },
	} {
		s := Sidecar{
			Ready: true, Certificate: valid, Gateways: []GatewayLink{{Address: "h:15012", XDS: true, Registered: true}},
			Services:  []Registration{{Service: shop, Port: 80}, {Service: shop, Port: 81}},
			Upstreams: []Upstream{{Destination: mesh.Destination{Service: shop, Port: 80}, State: "known", Gateways: []Host{{Ready: true}}}},
		}
		spoil(&s)
		if got := strings.Join(s.Problems(now), "\n"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
