package xds

import (
	"reflect"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// exampleRules has each thing that a rule can say.
func exampleRules() []mesh.Rule {
	to := func(name string, weight uint32) mesh.Backend {
		return mesh.Backend{Destination: mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: name}, Port: 80, Cluster: "east"}, Weight: weight}
	}
	prefix := func(p string) mesh.Match { return mesh.Match{Path: mesh.PathMatch{Kind: mesh.Prefix, Value: p}} }
	changed := to("orders-v2", 10)
	changed.Request = mesh.Fields{Set: []mesh.Field{{Name: "x-version", Value: "100%"}}}
	changed.Response = mesh.Fields{Remove: []string{"server"}}
	return []mesh.Rule{
		{Name: "HTTPRoute shop/orders rule 0", Match: mesh.Match{Path: mesh.PathMatch{Kind: mesh.Exact, Value: "/exact"}, Method: "POST",
			Headers: []mesh.ValueMatch{{Name: "x-user", Kind: mesh.Exact, Value: "anna"}, {Name: "x-id", Kind: mesh.Regex, Value: "[0-9]+"}},
			Query:   []mesh.ValueMatch{{Name: "debug", Kind: mesh.Exact, Value: "1"}, {Name: "page", Kind: mesh.Regex, Value: "[1-9].*"}}},
			Action: mesh.Action{Backends: []mesh.Backend{to("orders", 90), changed, {Weight: 5}}, Timeout: 10 * time.Second, BackendTimeout: 3 * time.Second,
				Request:  mesh.Fields{Set: []mesh.Field{{Name: "a", Value: "1"}}, Add: []mesh.Field{{Name: "b", Value: "2"}}, Remove: []string{"c"}},
				Response: mesh.Fields{Add: []mesh.Field{{Name: "d", Value: ""}}},
				Mirrors:  []mesh.Mirror{{Destination: to("shadow", 1).Destination, PerMillion: 500_000}}}},
		{Name: "HTTPRoute shop/orders rule 1", Match: prefix("/old"), Action: mesh.Action{Backends: []mesh.Backend{to("orders", 1)},
			Rewrite: mesh.Rewrite{Host: "other.example", Path: mesh.PathRewrite{Kind: mesh.ReplacePrefix, Value: "/new"}}}},
		{Name: "HTTPRoute shop/orders rule 2", Match: prefix("/v1.0"), Action: mesh.Action{Backends: []mesh.Backend{to("orders", 1)},
			Rewrite: mesh.Rewrite{Path: mesh.PathRewrite{Kind: mesh.ReplacePrefix, Value: "/"}}}},
		{Name: "HTTPRoute shop/orders rule 3", Match: mesh.Match{Path: mesh.PathMatch{Kind: mesh.Regex, Value: "/[a-z]+"}}, Action: mesh.Action{Backends: []mesh.Backend{to("orders", 1)},
			Rewrite: mesh.Rewrite{Path: mesh.PathRewrite{Kind: mesh.ReplaceFull, Value: "/whole"}}}},
		{Name: "HTTPRoute shop/orders rule 4", Match: prefix("/moved"), Action: mesh.Action{Redirect: &mesh.Redirect{Scheme: "https", Host: "new.example", Port: 8443, Status: 308, Path: mesh.PathRewrite{Kind: mesh.ReplaceFull, Value: "/there"}}}},
		{Name: "HTTPRoute shop/orders rule 5", Match: prefix("/moved2"), Action: mesh.Action{Redirect: &mesh.Redirect{Status: 302, Path: mesh.PathRewrite{Kind: mesh.ReplacePrefix, Value: "/here"}}}},
		{Name: "GRPCRoute shop/orders rule 0", Match: mesh.Match{GRPC: true, Path: mesh.PathMatch{Kind: mesh.Prefix, Value: "/shop.Orders"}}, Action: mesh.Action{Backends: []mesh.Backend{to("orders", 1)}}},
		{Name: "GRPCRoute shop/orders rule 1", Match: mesh.Match{GRPC: true, Path: mesh.PathMatch{Kind: mesh.Exact, Value: "/shop.Orders/Get"}}, Action: mesh.Action{Backends: []mesh.Backend{to("orders", 1)},
			Retry: &mesh.Retry{Codes: []int{500, 503}, Statuses: []string{"UNAVAILABLE", "RESOURCE_EXHAUSTED"}, Attempts: 2, Backoff: 100 * time.Millisecond}, BackendTimeout: time.Second}},
		{Name: "HTTPRoute shop/orders rule 6", Match: prefix("/lost"), Action: mesh.Action{Backends: []mesh.Backend{to("orders", 1)}, Retry: &mesh.Retry{Attempts: 1}}},
		{Name: "HTTPRoute shop/orders rule 7", Match: prefix("/")},
	}
}

func TestRulesComeBackAsTheyWereSent(t *testing.T) {
	d := mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Port: 80}
	for _, rules := range [][]mesh.Rule{nil, {}, exampleRules()} {
		e, err := encodeRules(d, rules)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeRules(d, e.Resource.Value)
		if err != nil || !mesh.EqualRules(got, rules) {
			for i := range got {
				if i < len(rules) && !reflect.DeepEqual(got[i], rules[i]) {
					t.Errorf("rule %d is\n%+v, want\n%+v", i, got[i], rules[i])
				}
			}
			t.Errorf("%d rules come back as %d, %v", len(rules), len(got), err)
		}
	}
}

func TestEnvoyAcceptsTheRules(t *testing.T) {
	d := mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Port: 80}
	var all []proto.Message
	for _, rules := range [][]mesh.Rule{exampleRules(), nil} {
		e, err := encodeRules(d, rules)
		if err != nil {
			t.Fatal(err)
		}
		m := &routev3.RouteConfiguration{}
		unmarshal(t, e, m)
		if err := m.ValidateAll(); err != nil {
			t.Error(err)
		}
		all = append(all, m)
	}
	golden(t, "rules.json", all...)
}

func TestRulesAreOfPortsOverWhichRequestsMayCome(t *testing.T) {
	for protocol, want := range map[mesh.Protocol]bool{mesh.HTTP: true, mesh.HTTP2: true, mesh.GRPC: true, mesh.Auto: true, mesh.TCP: false} {
		r := exampleRoutes()["http"]
		r.Protocol = protocol
		r.ByNamespace = map[string][]mesh.Rule{"front": exampleRules()}
		e, err := Encode(r)
		if err != nil || (e.Rules != nil) != want || (e.Own["front"] != nil) != want {
			t.Errorf("%s: %v %v", protocol, e.Rules, err)
		}
	}
}

func TestAConditionThatIsNotKnownRefusesTheRules(t *testing.T) {
	d := mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Port: 80}
	change := func(how func(*routev3.Route)) []byte {
		e, err := encodeRules(d, exampleRules()[:1])
		if err != nil {
			t.Fatal(err)
		}
		m := &routev3.RouteConfiguration{}
		unmarshal(t, e, m)
		how(m.VirtualHosts[0].Routes[0])
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, how := range map[string]func(*routev3.Route){
		"a header that is there": func(r *routev3.Route) {
			r.Match.Headers[0].HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}
		},
		"an inverted match": func(r *routev3.Route) { r.Match.Headers[0].InvertMatch = true },
		"a prefix within a segment": func(r *routev3.Route) {
			r.Match.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/ab"}
		},
		"another answer": func(r *routev3.Route) {
			r.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 418}}
		},
		"no destination": func(r *routev3.Route) {
			r.GetRoute().GetWeightedClusters().Clusters[0].Name = "blackhole"
		},
		"more retries than are made": func(r *routev3.Route) {
			r.GetRoute().RetryPolicy.RetryOn, r.GetRoute().RetryPolicy.NumRetries = lossesAndCodes, wrapperspb.UInt32(1<<31)
		},
		"a field of the framing": func(r *routev3.Route) { r.RequestHeadersToRemove = []string{"content-length"} },
	} {
		if got, err := DecodeRules(d, change(how)); err == nil {
			t.Errorf("%s is taken: %+v", name, got)
		}
	}
	if _, err := DecodeRules(mesh.Destination{Service: d.Service, Port: 81}, change(func(*routev3.Route) {})); err == nil {
		t.Error("rules of another destination are taken")
	}
	b, _ := proto.Marshal(&clusterv3.Cluster{Name: d.String()})
	if _, err := DecodeRules(d, b); err == nil {
		t.Error("a cluster is taken for rules")
	}
}

func FuzzDecodeRules(f *testing.F) {
	d := mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Port: 80}
	e, err := encodeRules(d, exampleRules())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(e.Resource.Value)
	f.Fuzz(func(t *testing.T, b []byte) {
		rules, err := DecodeRules(d, b)
		if err != nil || rules == nil {
			return
		}
		e, err := encodeRules(d, rules)
		if err != nil {
			t.Fatalf("what was read cannot be said: %v", err)
		}
		again, err := DecodeRules(d, e.Resource.Value)
		if err != nil || len(again) != len(rules) {
			t.Fatalf("%d rules come back as %d, %v", len(rules), len(again), err)
		}
	})
}

func TestWhatIsNotKnownOfRetriesIsNotRetried(t *testing.T) {
	for on, want := range map[string]*mesh.Retry{
		"5xx":                                   nil,
		lossesAndCodes + ",aborted,unavailable": {Statuses: []string{"UNAVAILABLE"}, Attempts: 2},
	} {
		got, err := decodeRetry(&routev3.RetryPolicy{RetryOn: on, NumRetries: wrapperspb.UInt32(2)})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v %v, want %+v", on, got, err, want)
		}
	}
}
