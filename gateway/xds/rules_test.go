package xds

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// ruledTo is a route whose rules lead to a backend.
func ruledTo(name, backend string) *mesh.Route {
	r := routeTo(name, 1)
	r.Rules = rulesTo(name, backend)
	return r
}

func rulesTo(name, backend string) []mesh.Rule {
	return []mesh.Rule{{Name: name, Match: mesh.Match{Path: mesh.PathMatch{Kind: mesh.Prefix, Value: "/"}}, Action: mesh.Action{Backends: []mesh.Backend{{Destination: service(backend), Weight: 1}}}}}
}

// leads returns the backend of the only rule of a destination that a response has; empty: it has no
// rules.
func leads(t *testing.T, r *discoveryv3.DeltaDiscoveryResponse, name string) string {
	t.Helper()
	for _, one := range r.Resources {
		if one.Name != service(name).String() {
			continue
		}
		rules, err := xds.DecodeRules(service(name), one.Resource.Value)
		if err != nil {
			t.Fatal(err)
		}
		if len(rules) == 0 {
			return ""
		}
		return rules[0].Action.Backends[0].Destination.Service.Name
	}
	t.Fatalf("no rules of %s in %v", name, r)
	return ""
}

func TestCallersOfANamespaceAreToldTheRulesThatAreTheirOwn(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	orders := ruledTo("orders", "v1")
	orders.ByNamespace = map[string][]mesh.Rule{"front": rulesTo("orders", "v2")}
	g := start(t, m, "", orders, routeTo("v1", 1))
	ask := func(c *client) *discoveryv3.DeltaDiscoveryResponse {
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.RulesType, ResourceNamesSubscribe: resourceNames([]string{"orders"})})
		return c.next()
	}
	shop, front := g.dialAs(m.Workload("east", "shop", "web")), g.dialAs(m.Workload("east", "front", "web"))
	if got := leads(t, ask(shop), "orders"); got != "v1" {
		t.Errorf("a caller of another namespace is led to %q", got)
	}
	if got := leads(t, ask(front), "orders"); got != "v2" {
		t.Errorf("a caller of the namespace is led to %q", got)
	}

	// A change of the one concerns nobody else, and without its own a namespace has those of all.
	other := ruledTo("orders", "v1")
	other.ByNamespace = map[string][]mesh.Rule{"front": rulesTo("orders", "v3")}
	g.publish(other, routeTo("v1", 1))
	if got := leads(t, front.next(), "orders"); got != "v3" {
		t.Errorf("after a change it is led to %q", got)
	}
	shop.quiet()
	g.publish(ruledTo("orders", "v1"), routeTo("v1", 1))
	if got := leads(t, front.next(), "orders"); got != "v1" {
		t.Errorf("without rules of its own it is led to %q", got)
	}
	shop.quiet()
	g.publish(routeTo("orders", 1), routeTo("v1", 1))
	if got := leads(t, shop.next(), "orders"); got != "" {
		t.Errorf("without any rules it is led to %q", got)
	}
}

func TestWhoAsksForEverythingIsToldOfTheBackendsOfItsRules(t *testing.T) {
	g := start(t, identitytest.New(t, "mesh.example"), "", routeTo("orders", 1), routeTo("v1", 1), routeTo("v2", 1))
	named := g.dial("web")
	named.subscribe("orders")
	named.expect([]string{"orders"}, nil)
	named.close()

	c := g.dial("web")
	c.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"*"}})
	c.expect([]string{"orders"}, nil)
	g.publish(ruledTo("orders", "v1"), routeTo("v1", 1), routeTo("v2", 1))
	c.expect([]string{"v1"}, nil)
	g.publish(ruledTo("orders", "v2"), routeTo("v1", 1), routeTo("v2", 1))
	c.expect([]string{"v2"}, nil)
}
