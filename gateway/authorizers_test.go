package gateway

import (
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
)

func TestEachServiceHasThePoliciesThatAreAboutItAndTellsThemToThoseWhoServe(t *testing.T) {
	cart, orders := mesh.ServiceName{Namespace: "shop", Name: "cart"}, mesh.ServiceName{Namespace: "shop", Name: "orders"}
	services := []mesh.Service{
		{Name: cart, Ports: []mesh.ServicePort{{Port: 80, Protocol: mesh.HTTP, Endpoints: []mesh.Endpoint{{Instance: "1", Address: "10.0.0.1:80"}}}}},
		{Name: orders, Ports: []mesh.ServicePort{{Port: 81, Exported: true}, {Port: 80, Exported: true}, {Port: 82}}},
	}
	resources := []discovery.Described{{Service: discovery.Service{Name: orders}, Serves: []string{"batch"}}}
	everybody := []policy.Rule{{From: []policy.Callers{{Namespace: "*"}}, Methods: []string{"GET"}}}
	policies := []policy.Policy{
		{Namespace: "shop", Name: "b", Action: policy.Allow, Rules: everybody},
		{Namespace: "zoo", Name: "c", Action: policy.Deny, Rules: everybody},
		{Namespace: "shop", Name: "a", Services: []string{"orders"}, Action: policy.Deny, Rules: everybody},
	}
	here := home{"mesh.example", "east"}
	a, err := authorizersOf(nil, services, resources, policies, here)
	if err != nil {
		t.Fatal(err)
	}
	told := a.told()
	if len(told) != 2 || told[0].Set.Service != cart || strings.Join(told[0].Accounts, " ") != "cart" || strings.Join(told[1].Accounts, " ") != "orders batch" {
		t.Errorf("%+v", told)
	}
	if p := told[0].Set.Policies; len(p) != 1 || p[0].Name != "b" || len(told[0].Set.Exported) != 0 {
		t.Errorf("cart: %+v", told[0].Set)
	}
	if p := told[1].Set.Policies; len(p) != 2 || p[0].Name != "a" || p[1].Name != "b" || len(told[1].Set.Exported) != 2 || told[1].Set.Exported[0] != 80 {
		t.Errorf("orders: %+v", told[1].Set)
	}
	if u := a.unjudged(); len(u) != 1 || u[0].Service != cart || u[0].Policy != "AuthorizationPolicy shop/b" {
		t.Errorf("unjudged: %+v", u)
	}
	if a.of(mesh.ServiceName{Namespace: "shop", Name: "none"}) != nil || (*authorizers)(nil).of(cart) != nil {
		t.Error("a service that there is not has callers")
	}

	// Only what has changed is made anew.
	again := []mesh.Service{services[0], {Name: orders, Ports: []mesh.ServicePort{{Port: 80}}}}
	b, err := authorizersOf(a, again, resources, policies, here)
	if err != nil || b.of(cart) != a.of(cart) || b.of(orders) == a.of(orders) {
		t.Errorf("%v", err)
	}
	if !a.madeOf(services, resources, policies) || a.madeOf(again, resources, policies) {
		t.Error("what it was made of")
	}
	if b.decidesAs(a) || !a.decidesAs(nil) {
		t.Error("what is decided has changed for orders")
	}
	more := append(slices.Clone(services), mesh.Service{Name: mesh.ServiceName{Namespace: "zoo", Name: "lion"}})
	if c, err := authorizersOf(a, more, resources, policies, here); err != nil || !c.decidesAs(a) || a.decidesAs(c) {
		t.Errorf("one more service: %v", err)
	}
	// What is wrong changes nothing.
	bad := []policy.Policy{{Namespace: "shop", Name: "d", Action: "audit"}}
	if c, err := authorizersOf(b, again, resources, bad, here); err == nil || c != b {
		t.Errorf("%v", err)
	}
}

func TestAGatewayIsNotReadyWhileItIsNotKnownWhoMayCall(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	cfg := lone(t)
	cfg.Resources = t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(cfg.Resources, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.yaml", "apiVersion: isthmus.io/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: orders}\nspec: {ports: [{port: 80, protocol: http}], endpoints: [127.0.0.1:1]}\n")
	write("b.yaml", "kind: AuthorisationPolicy\n")
	g, err := New(cfg, Options{Log: slog.New(slog.DiscardHandler), Identity: m.Gateway("east", "east-1")})
	if err != nil {
		t.Fatal(err)
	}
	run(t, g)
	until(t, "the fault", func() bool {
		unmet := g.ready.Unmet()
		return len(unmet) == 1 && unmet[0].Name == "policies" && strings.Contains(unmet[0].Reason, "b.yaml has never been read well")
	})
	ask := func() string {
		a := g.wouldAllow(url.Values{"caller": {"front/web"}, "service": {"shop/orders"}})
		return a.Decision + a.Error
	}
	if got := ask(); !strings.Contains(got, "who may call is not known") {
		t.Error(got)
	}
	if err := os.Remove(filepath.Join(cfg.Resources, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	until(t, "that it is ready", func() bool { return len(g.ready.Unmet()) == 0 && ask() == "refused" })
	write("c.yaml", "apiVersion: isthmus.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {namespace: shop, name: web}\nspec: {rules: [{from: [front/web]}]}\n")
	until(t, "the change", func() bool { return ask() == "allowed" })
	if a := g.wouldAllow(url.Values{"caller": {"front/web"}, "service": {"shop/none"}}); !strings.Contains(a.Error, "no service shop/none in cluster east") {
		t.Error(a.Error)
	}
}
