package policy

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestAPolicyOfAServiceIsNotPassedThroughAnotherOverTheSamePrograms(t *testing.T) {
	service := func(name string) mesh.ServiceName { return mesh.ServiceName{Namespace: "shop", Name: name} }
	about := func(name string, action Action, rules ...Rule) Policy {
		return Policy{Namespace: "shop", Name: "p-" + name, Services: []string{name}, Action: action, Rules: rules}
	}
	from := func(account string) []Callers { return []Callers{{Namespace: "front", ServiceAccount: account}} }
	web, everybody := Rule{From: from("web")}, Rule{}
	// other:81 leads to what orders:80 leads to; other:90 does not.
	besides := []Beside{{Service: service("orders"), Port: 80, As: 81}}
	dry := about("orders", Allow, web)
	dry.DryRun = true
	for what, test := range map[string]struct {
		all                     []Policy
		web81, own81, own90, m5 bool // front/web and shop/x at 81, shop/x at 90, front/other at 81
	}{
		"nothing is written":                 {nil, false, true, true, false},
		"orders allows":                      {[]Policy{about("orders", Allow, web)}, true, false, true, false},
		"orders allows nobody":               {[]Policy{about("orders", Allow)}, false, false, true, false},
		"orders would allow":                 {[]Policy{dry}, false, true, true, false},
		"orders denies":                      {[]Policy{about("orders", Deny, everybody)}, false, false, true, false},
		"orders denies at another port":      {[]Policy{about("orders", Deny, Rule{Ports: []uint16{70}})}, false, true, true, false},
		"orders denies at this port":         {[]Policy{about("orders", Deny, Rule{Ports: []uint16{70, 80}})}, false, false, true, false},
		"orders allows at another port":      {[]Policy{about("orders", Allow, Rule{From: from("web"), Ports: []uint16{70}})}, false, false, true, false},
		"other allows, orders somebody else": {[]Policy{about("other", Allow, Rule{From: from("other")}), about("orders", Allow, web)}, false, false, false, true},
		"other allows, orders denies":        {[]Policy{about("other", Allow, Rule{From: from("other")}), about("orders", Deny, everybody)}, false, false, false, false},
		"an allow list of orders":            {[]Policy{{Namespace: "shop", Services: []string{"orders"}, Action: Allow, Rules: []Rule{web}}}, true, false, true, false},
		"all of the namespace":               {[]Policy{{Namespace: "shop", Name: "all", Action: Allow, Rules: []Rule{web}}}, true, false, false, false},
		"a service that is not beside":       {[]Policy{about("cart", Deny, everybody)}, false, true, true, false},
	} {
		set := SetOf(service("other"), nil, WithBeside(service("other"), []uint16{81, 90}, test.all, besides))
		a, err := Compile(set, "mesh.example", "east")
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		may := func(namespace, account string, port uint16) bool {
			c := Caller{ID: identity.ID{TrustDomain: "mesh.example", Cluster: "east", Namespace: namespace, ServiceAccount: account}}
			return a.Opaque(&c, port).Allowed
		}
		if got := [4]bool{may("front", "web", 81), may("shop", "x", 81), may("shop", "x", 90), may("front", "other", 81)}; got != [4]bool{test.web81, test.own81, test.own90, test.m5} {
			t.Errorf("%s: front/web at 81, shop/x at 81, shop/x at 90, front/other at 81 are %v", what, got)
		}
	}
}

func TestPoliciesOfManyServicesBesideAreWithinTheBounds(t *testing.T) {
	name := mesh.ServiceName{Namespace: "shop", Name: "other"}
	var all []Policy
	for range MaxPolicies {
		all = append(all, Policy{Namespace: "shop", Name: "p", Services: []string{"orders"}, Action: Allow, Rules: []Rule{{From: []Callers{{}}}}})
	}
	var besides []Beside
	var ports []uint16
	for n := range uint16(3 * MaxValues) {
		besides = append(besides, Beside{mesh.ServiceName{Namespace: "shop", Name: "orders"}, 80, n + 1})
		ports = append(ports, n+1, n+20000)
	}
	if err := SetOf(name, nil, WithBeside(name, ports, all, besides)).Check(); err != nil {
		t.Error(err)
	}
}
