package controlplane

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	gatewayxds "github.com/isthmus-mesh/isthmus/gateway/xds"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/xds"
	"github.com/isthmus-mesh/isthmus/sidecar/adsclient"
	"github.com/isthmus-mesh/isthmus/sidecar/gatewaylink"
)

// policyOf is who may call shop/name: its rule is for this account of namespace front.
func policyOf(name, account string, accounts ...string) gatewayxds.Policy {
	s := mesh.ServiceName{Namespace: "shop", Name: name}
	return gatewayxds.Policy{Accounts: accounts, Set: policy.SetOf(s, []uint16{80}, []policy.Policy{{
		Namespace: "shop", Name: "callers", Action: policy.Allow,
		Rules: []policy.Rule{{From: []policy.Callers{{Namespace: "front", ServiceAccount: account}}}},
	}})}
}

// server is a sidecar that serves shop/name and is told who may call it.
type server struct {
	t    *testing.T
	told chan *policy.Set
	stop func()
}

func serving(t *testing.T, id *identity.Source, name, state string, gateways ...string) *server {
	t.Helper()
	links, err := gatewaylink.New(id, gateways)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, told: make(chan *policy.Set, 100)}
	c, err := adsclient.New(adsclient.Config{
		Links: links, ID: id.ID().String(), Apply: func([]*mesh.Route, []mesh.Destination) {},
		Services: []mesh.ServiceName{{Namespace: "shop", Name: name}}, ApplyPolicy: func(p *policy.Set) { s.told <- p }, StatePath: state,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = c.Run(ctx) })
	s.stop = func() { cancel(); running.Wait() }
	t.Cleanup(s.stop)
	return s
}

// until waits for the policy whose only rule is for this account.
func (s *server) until(account string) {
	s.t.Helper()
	late := time.After(patience)
	for {
		select {
		case p := <-s.told:
			if len(p.Policies) == 1 && p.Policies[0].Rules[0].From[0].ServiceAccount == account {
				return
			}
		case <-late:
			s.t.Fatalf("never told of the policy for %s", account)
		}
	}
}

func TestASidecarIsToldWhoMayCallItsServiceAndKeepsIt(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	state := filepath.Join(t.TempDir(), "routes.pb")
	g := serve(t, m.Gateway("east", "east-1"), "", "")
	g.xds.SetRoutes([]*mesh.Route{route("orders", 1)}, true)
	orders := serving(t, m.Workload("east", "shop", "orders"), "orders", state, g.addr)
	batch := serving(t, m.Workload("east", "shop", "batch"), "orders", "", g.addr) // another account that serves
	g.xds.SetPolicies([]gatewayxds.Policy{policyOf("orders", "web", "orders", "batch"), policyOf("cart", "cron", "cart")})
	orders.until("web")
	batch.until("web")
	g.xds.SetPolicies([]gatewayxds.Policy{policyOf("orders", "mobile", "orders", "batch")})
	orders.until("mobile")

	// A gateway that does not know of the service yet takes nothing away.
	g.xds.SetPolicies(nil)
	g.xds.SetPolicies([]gatewayxds.Policy{policyOf("orders", "desktop", "orders")})
	orders.until("desktop")
	orders.stop()
	g.stop()
	orders = serving(t, m.Workload("east", "shop", "orders"), "orders", state, g.addr)
	orders.until("desktop") // from disk: nobody answers

	// What batch may not serve any more it is not told of, even when it asks again.
	g = serve(t, m.Gateway("east", "east-1"), g.addr, "")
	g.xds.SetPolicies([]gatewayxds.Policy{policyOf("orders", "tv", "orders")})
	g.xds.SetRoutes([]*mesh.Route{route("orders", 1)}, true)
	orders.until("tv")
	for {
		select {
		case p := <-batch.told:
			if a := p.Policies[0].Rules[0].From[0].ServiceAccount; a == "desktop" || a == "tv" {
				t.Errorf("an account that serves no more was told of %s", a)
			}
			continue
		default:
		}
		break
	}
}

func TestNobodyIsToldWhoMayCallTheServiceOfSomebodyElse(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	g := serve(t, m.Gateway("east", "east-1"), "", "")
	g.xds.SetPolicies([]gatewayxds.Policy{policyOf("orders", "web", "orders")})
	g.xds.SetRoutes([]*mesh.Route{route("orders", 1)}, true)
	waitFor(t, g.xds.Serves)
	ask := func(namespace, account string, names ...string) *discoveryv3.DeltaDiscoveryResponse {
		t.Helper()
		cc, err := grpc.NewClient("passthrough:///"+g.addr,
			grpc.WithTransportCredentials(credentials.NewTLS(m.Workload("east", namespace, account).ClientTLS("", identity.GatewayOf("east"), "h2"))))
		if err != nil {
			t.Fatal(err)
		}
		defer cc.Close()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(cc).DeltaAggregatedResources(ctx, grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.PolicyType, ResourceNamesSubscribe: names}); err != nil {
			t.Fatal(err)
		}
		resp, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	if resp := ask("shop", "orders", "shop/orders", "shop/cart"); len(resp.GetResources()) != 1 || resp.GetResources()[0].GetName() != "shop/orders" || len(resp.GetRemovedResources()) != 0 {
		t.Errorf("who serves it is told %v", resp)
	}
	for _, who := range [][2]string{{"shop", "web"}, {"front", "orders"}} {
		for _, names := range [][]string{{"shop/orders"}, nil, {"*"}} {
			if resp := ask(who[0], who[1], names...); len(resp.GetResources())+len(resp.GetRemovedResources()) != 0 {
				t.Errorf("%s is told %v when it asks for %v", who, resp, names)
			}
		}
	}
}
