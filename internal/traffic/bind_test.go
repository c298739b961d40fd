package traffic

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// known is a cluster east that has shop/orders and shop/v1 with ports 80 (HTTP) and 5432 (TCP),
// other/far with port 80, and shop/all, which is of other clusters only.
func known(d mesh.Destination) []mesh.RoutePort {
	switch d {
	case mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Cluster: "east"}, mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "v1"}, Cluster: "east"}:
		return []mesh.RoutePort{{Number: 80, Protocol: mesh.HTTP}, {Number: 81, Protocol: mesh.Auto}, {Number: 5432, Protocol: mesh.TCP}}
	case mesh.Destination{Service: mesh.ServiceName{Namespace: "other", Name: "far"}, Cluster: "east"}, mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "all"}}:
		return []mesh.RoutePort{{Number: 80, Protocol: mesh.HTTP}}
	}
	return nil
}

func own(name string, port uint16) mesh.Destination {
	return mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: name}, Port: port, Cluster: "east"}
}

func ref(kind, namespace, name string, port uint16) BackendRef {
	return BackendRef{Ref: Ref{Kind: kind, Service: mesh.ServiceName{Namespace: namespace, Name: name}, Port: port}, Weight: 1}
}

// routed is a route in a namespace with a parent shop/orders and one rule.
func routed(kind Kind, namespace, name string, backends ...BackendRef) Route {
	return Route{Kind: kind, Namespace: namespace, Name: name, Parents: []Parent{{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}}},
		Rules: []RouteRule{{Backends: backends}}}
}

func names(rules []mesh.Rule) (all []string) {
	for _, r := range rules {
		all = append(all, r.Name)
	}
	return all
}

func TestARouteIsAttachedToThePortsThatCarryRequests(t *testing.T) {
	got := Bind(&Set{Routes: []Route{routed(HTTPRoute, "shop", "r", ref("Service", "shop", "v1", 80))}}, "east", known)
	if len(got.Attached) != 2 || got.Attached[own("orders", 80)].Rules == nil || got.Attached[own("orders", 81)].Rules == nil {
		t.Fatalf("attached: %+v", got.Attached)
	}
	r := got.Attached[own("orders", 80)].Rules[0]
	if r.Match.Path != everyPath || len(r.Action.Backends) != 1 || r.Action.Backends[0].Destination != own("v1", 80) || r.Name != "HTTPRoute shop/r rule 0" {
		t.Errorf("%+v", r)
	}
	if p := got.Routes[0].Parents[0]; p != (ParentBinding{}) {
		t.Errorf("%+v", p)
	}
	one := routed(HTTPRoute, "shop", "r")
	one.Parents[0].Port = 81
	if got := Bind(&Set{Routes: []Route{one}}, "east", known); len(got.Attached) != 1 || got.Attached[own("orders", 81)].Rules == nil {
		t.Errorf("with a port: %+v", got.Attached)
	}
}

func TestConditionsSayWhatIsWrongWithARoute(t *testing.T) {
	parent := func(p Parent) Route {
		r := routed(HTTPRoute, "shop", "r", ref("Service", "shop", "v1", 80))
		r.Parents = []Parent{p}
		return r
	}
	orders := mesh.ServiceName{Namespace: "shop", Name: "orders"}
	bad := routed(HTTPRoute, "shop", "r")
	bad.Unsupported = "CORS"
	for name, c := range map[string]struct {
		route          Route
		accepted, refs string
	}{
		"no such service":                {parent(Parent{Service: mesh.ServiceName{Namespace: "shop", Name: "ghost"}}), NoMatchingParent, ""},
		"no such port":                   {parent(Parent{Service: orders, Port: 82}), NoMatchingParent, ""},
		"a port of bytes":                {parent(Parent{Service: orders, Port: 5432}), NoMatchingParent, ""},
		"the service of all clusters":    {parent(Parent{Service: orders, Import: true}), NoMatchingParent, ""},
		"what is not done":               {bad, UnsupportedValue, ""},
		"no such backend":                {routed(HTTPRoute, "shop", "r", ref("Service", "shop", "ghost", 80)), "", BackendNotFound},
		"no such port of a backend":      {routed(HTTPRoute, "shop", "r", ref("Service", "shop", "v1", 82)), "", BackendNotFound},
		"a backend without a port":       {routed(HTTPRoute, "shop", "r", ref("Service", "shop", "v1", 0)), "", BackendNotFound},
		"a backend that is no service":   {routed(HTTPRoute, "shop", "r", ref("apps/Deployment", "shop", "v1", 80)), "", InvalidKind},
		"a backend of another namespace": {routed(HTTPRoute, "shop", "r", ref("Service", "other", "far", 80)), "", RefNotPermitted},
		"a consumer's backend":           {routed(HTTPRoute, "front", "r", ref("Service", "other", "far", 80)), "", ""},
		"a backend of all clusters":      {routed(HTTPRoute, "shop", "r", ref("ServiceImport", "shop", "all", 80)), "", ""},
	} {
		got := Bind(&Set{Routes: []Route{c.route}}, "east", known).Routes[0].Parents[0]
		if got.Accepted.Reason != c.accepted || got.Refs.Reason != c.refs || (c.accepted != "") != (got.Accepted.Message != "") {
			t.Errorf("%s: %+v, want %q and %q", name, got, c.accepted, c.refs)
		}
	}
}

func TestARouteOfAPortThatIsNotThereIsToldSo(t *testing.T) {
	route := routed(HTTPRoute, "shop", "r", ref("Service", "shop", "v1", 80))
	for port, want := range map[uint16]string{82: "shop/orders has no port 82", 5432: "shop/orders has no port that carries requests"} {
		route.Parents = []Parent{{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Port: port}}
		if got := Bind(&Set{Routes: []Route{route}}, "east", known).Routes[0].Parents[0].Accepted.Message; got != want {
			t.Errorf("port %d: %q, want %q", port, got, want)
		}
	}
}

func TestAGrantLetsAProducerNameAServiceOfAnotherNamespace(t *testing.T) {
	route := routed(HTTPRoute, "shop", "r", ref("Service", "other", "far", 80))
	for g, want := range map[Grant]bool{
		{"other", HTTPRoute, "shop", "Service", ""}:       true,
		{"other", HTTPRoute, "shop", "Service", "far"}:    true,
		{"other", HTTPRoute, "shop", "Service", "x"}:      false,
		{"other", GRPCRoute, "shop", "Service", ""}:       false,
		{"shop", HTTPRoute, "shop", "Service", ""}:        false,
		{"other", HTTPRoute, "front", "Service", ""}:      false,
		{"other", HTTPRoute, "shop", "ServiceImport", ""}: false,
	} {
		got := Bind(&Set{Routes: []Route{route}, Grants: []Grant{g}}, "east", known)
		if ok := got.Routes[0].Parents[0].Refs == (Problem{}); ok != want {
			t.Errorf("%+v: %+v", g, got.Routes[0].Parents[0])
		}
		if b := got.Attached[own("orders", 80)].Rules[0].Action.Backends[0]; (b.Destination != mesh.Destination{}) != want {
			t.Errorf("%+v: the backend is %v", g, b)
		}
	}
}

func TestAConsumersRouteHoldsForItsNamespaceOnlyAndThereAlone(t *testing.T) {
	got := Bind(&Set{Routes: []Route{routed(HTTPRoute, "shop", "producer"), routed(HTTPRoute, "front", "consumer")}}, "east", known).Attached[own("orders", 80)]
	if n := names(got.Rules); len(n) != 1 || n[0] != "HTTPRoute shop/producer rule 0" {
		t.Errorf("for all: %v", n)
	}
	if n := names(got.ByNamespace["front"]); len(n) != 1 || n[0] != "HTTPRoute front/consumer rule 0" || len(got.ByNamespace) != 1 {
		t.Errorf("by namespace: %v", got.ByNamespace)
	}
}

func TestOnlyGRPCRoutesCountWhereBothKindsAreAttached(t *testing.T) {
	http, grpc := routed(HTTPRoute, "shop", "a"), routed(GRPCRoute, "shop", "b")
	grpc.Parents[0].Port = 80
	got := Bind(&Set{Routes: []Route{http, grpc}}, "east", known)
	if n := names(got.Attached[own("orders", 80)].Rules); len(n) != 1 || n[0] != "GRPCRoute shop/b rule 0" {
		t.Errorf("port 80: %v", n)
	}
	if got.Routes[0].Parents[0].Accepted != (Problem{}) { // it holds for port 81
		t.Errorf("%+v", got.Routes[0].Parents[0])
	}
	http.Parents[0].Port = 80
	got = Bind(&Set{Routes: []Route{http, grpc}}, "east", known)
	if got.Routes[0].Parents[0].Accepted.Reason != Conflicted {
		t.Errorf("%+v", got.Routes[0].Parents[0])
	}
}

func TestRulesCountInTheOrderOfTheSpecification(t *testing.T) {
	older, younger := time.Unix(1, 0), time.Unix(2, 0)
	match := func(m mesh.Match) []Match { return []Match{{Match: m}} }
	with := func(m mesh.Match, method string, headers, query int) mesh.Match {
		m.Method = method
		for i := range headers {
			m.Headers = append(m.Headers, mesh.ValueMatch{Name: fmt.Sprint("h", i), Kind: mesh.Exact})
		}
		for i := range query {
			m.Query = append(m.Query, mesh.ValueMatch{Name: fmt.Sprint("q", i), Kind: mesh.Exact})
		}
		return m
	}
	want := []string{"exact", "regex", "long", "method", "headers", "query", "older", "older2", "byname", "younger", "all"}
	rules := map[string][]Match{
		"exact": match(path(mesh.Exact, "/a")), "regex": match(path(mesh.Regex, "/a.*")), "long": match(path(mesh.Prefix, "/abcdefgh")),
		"method": match(with(path(mesh.Prefix, "/a"), "GET", 0, 0)), "headers": match(with(path(mesh.Prefix, "/a"), "", 2, 0)),
		"query": match(with(path(mesh.Prefix, "/a"), "", 1, 1)), "older": match(path(mesh.Prefix, "/a")), "older2": match(path(mesh.Prefix, "/a")),
		"byname": match(path(mesh.Prefix, "/a")), "younger": match(path(mesh.Prefix, "/a")), "all": nil,
	}
	route := func(name string, at time.Time, of ...string) Route {
		r := routed(HTTPRoute, "shop", name)
		r.Created, r.Rules = at, nil
		for _, n := range of {
			r.Rules = append(r.Rules, RouteRule{Name: n, Matches: rules[n]})
		}
		return r
	}
	got := Bind(&Set{Routes: []Route{
		route("z", younger, "all", "younger", "query", "headers"), route("y", younger, "byname", "method", "long", "regex", "exact"), route("x", older, "older", "older2"),
	}}, "east", known).Attached[own("orders", 80)].Rules
	var order []string
	for _, n := range names(got) {
		order = append(order, n[strings.LastIndexByte(n, ' ')+1:])
	}
	if !slices.Equal(order, want) {
		t.Errorf("the order is\n%v, want\n%v", order, want)
	}
}

func TestCallsAreMatchedByServiceAndMethod(t *testing.T) {
	for _, c := range []struct {
		kind            mesh.MatchKind
		service, method string
		yes, no         []string
	}{
		{mesh.Exact, "shop.Orders", "Get", []string{"/shop.Orders/Get"}, []string{"/shop.Orders/GetAll", "/shop.Orders"}},
		{mesh.Exact, "shop.Orders", "", []string{"/shop.Orders/Get", "/shop.Orders/Put"}, []string{"/shop.OrdersX/Get"}},
		{mesh.Exact, "", "Get", []string{"/a/Get", "/b.c/Get"}, []string{"/a/GetAll", "/a/b/Get"}},
		{mesh.Exact, "", "", []string{"/a/b"}, nil},
		{mesh.Regex, "shop\\..*", "Get|Put", []string{"/shop.Orders/Put"}, []string{"/shopOrders/Put", "/shop.Orders/Del", "/shop.Orders/GetX"}},
		{mesh.Regex, "", "G.t", []string{"/x/Got"}, []string{"/x/Goat"}},
	} {
		m := GRPCMatch(c.kind, c.service, c.method, nil)
		r, err := Compile([]mesh.Rule{{Match: m.Match}})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range c.yes {
			if r.Match(&Head{GRPC: true, Path: []byte(p)}) == nil {
				t.Errorf("%+v does not match %s", c, p)
			}
			if r.Match(&Head{Path: []byte(p)}) != nil {
				t.Errorf("%+v matches what is no call", c)
			}
		}
		for _, p := range c.no {
			if r.Match(&Head{GRPC: true, Path: []byte(p)}) != nil {
				t.Errorf("%+v matches %s", c, p)
			}
		}
	}
}

func TestTooManyRulesTakeTheYoungerRoutesOut(t *testing.T) {
	big := func(name string, at int64) Route {
		r := routed(HTTPRoute, "shop", name)
		r.Created = time.Unix(at, 0)
		r.Rules = make([]RouteRule, MaxRules/2+1)
		return r
	}
	got := Bind(&Set{Routes: []Route{big("young", 2), big("old", 1)}}, "east", known)
	if got.Routes[0].Parents[0].Accepted.Reason != UnsupportedValue || got.Routes[1].Parents[0].Accepted != (Problem{}) {
		t.Errorf("young: %+v, old: %+v", got.Routes[0].Parents[0], got.Routes[1].Parents[0])
	}
}
