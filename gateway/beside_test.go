package gateway

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
)

// over returns a service of one port whose endpoints are as given: "address" is plain,
// "address>target" has a sidecar.
func over(namespace, name string, port uint16, endpoints ...mesh.Endpoint) mesh.Service {
	return mesh.Service{Name: mesh.ServiceName{Namespace: namespace, Name: name}, Ports: []mesh.ServicePort{{Port: port, Protocol: mesh.HTTP, Endpoints: endpoints}}}
}

func TestServicesOverTheSameProgramsAreBesideEachOther(t *testing.T) {
	meshed := func(target uint16) mesh.Endpoint {
		return mesh.Endpoint{Instance: "p", Address: "10.42.0.10:15008", Target: target, Identity: "spiffe://mesh.example/cluster/east/ns/shop/sa/orders"}
	}
	machine := mesh.Endpoint{Instance: "m", Address: "10.0.0.7:15008", Identity: "spiffe://mesh.example/cluster/east/ns/shop/sa/orders"}
	services := []mesh.Service{
		over("shop", "admin", 80, meshed(9090)),
		over("shop", "copy", 81, meshed(8080)),
		over("shop", "legacy", 80, mesh.Endpoint{Address: "10.42.0.11:8080"}),
		over("shop", "legacy-copy", 82, mesh.Endpoint{Address: "10.42.0.11:8080"}),
		over("shop", "machine", 80, machine),
		over("shop", "machine-copy", 80, machine), // of which port it leads to only its sidecar knows
		over("shop", "orders", 80, meshed(8080)),
		over("zoo", "copy", 80, meshed(8080)),
	}
	policies := []policy.Policy{
		{Namespace: "shop", Name: "a", Services: []string{"orders", "legacy", "machine"}, Action: policy.Deny, Rules: []policy.Rule{{}}},
		{Namespace: "shop", Name: "b", Action: policy.Allow},
	}
	name := func(s string) mesh.ServiceName { return mesh.ServiceName{Namespace: "shop", Name: s} }
	want := map[mesh.ServiceName][]policy.Beside{
		name("copy"):        {{Service: name("orders"), Port: 80, As: 81}},
		name("legacy-copy"): {{Service: name("legacy"), Port: 80, As: 82}},
	}
	if diff := cmp.Diff(want, besidesOf(services, policies)); diff != "" {
		t.Error(diff)
	}
	all, err := authorizersOf(nil, services, nil, policies, home{"mesh.example", "east"})
	if err != nil {
		t.Fatal(err)
	}
	own := policy.Caller{ID: identity.ID{TrustDomain: "mesh.example", Cluster: "east", Namespace: "shop", ServiceAccount: "web"}}
	if a := all.of(name("copy")); a.Opaque(&own, 81).Allowed {
		t.Error("a policy of orders is passed through a Service over the same pods")
	}
	// A Service that is removed takes its word with it.
	alone := append(services[:6:6], services[7])
	next, err := authorizersOf(all, alone, nil, policies, home{"mesh.example", "east"})
	if err != nil || len(next.of(name("copy")).Set().Policies) != 1 {
		t.Errorf("%+v, %v", next.of(name("copy")).Set(), err)
	}
	if again, err := authorizersOf(next, alone, nil, policies, home{"mesh.example", "east"}); err != nil || again.of(name("copy")) != next.of(name("copy")) {
		t.Errorf("what is the same is made anew, %v", err)
	}
}

func TestAServiceBesideTooManyIsClosed(t *testing.T) {
	plain := mesh.Endpoint{Address: "10.42.0.11:8080"}
	services := []mesh.Service{over("shop", "a", 80, plain)}
	p := policy.Policy{Namespace: "shop", Name: "p", Action: policy.Allow, Rules: []policy.Rule{{From: []policy.Callers{{}}}}}
	for n := range maxBesides + 1 {
		s := over("shop", fmt.Sprintf("s%d", n), 80, plain)
		services = append(services, s)
		p.Services = append(p.Services, s.Name.Name)
	}
	besides := besidesOf(services, []policy.Policy{p})[services[0].Name]
	if in := policiesFor(&services[0], []policy.Policy{p}, besides); len(in) != 1 || in[0].Closes == "" {
		t.Errorf("%d besides, %+v", len(besides), in)
	}
}
