package adsclient

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

var orders = mesh.ServiceName{Namespace: "shop", Name: "orders"}

// policies is a response with one policy: that of a service, under a name.
func policies(t *testing.T, name string, s *policy.Set) *discoveryv3.DeltaDiscoveryResponse {
	t.Helper()
	r, err := xds.EncodePolicy(s)
	if err != nil {
		t.Fatal(err)
	}
	r.Name = name
	return &discoveryv3.DeltaDiscoveryResponse{TypeUrl: xds.PolicyType, Resources: []*discoveryv3.Resource{r}}
}

func TestAPolicyIsReplacedByOneThatCanBeUsedAndByNothingElse(t *testing.T) {
	a := newAccepted([]mesh.ServiceName{orders})
	first := policy.SetOf(orders, []uint16{80}, nil)
	if !take(t, a, policies(t, "shop/orders", first)) || a.policies[orders] == nil || len(a.policies[orders].Exported) != 1 {
		t.Fatalf("%+v", a.policies[orders])
	}
	held := a.policies[orders]
	cart := mesh.ServiceName{Namespace: "shop", Name: "cart"}
	bad := policies(t, "shop/orders", first)
	bad.Resources[0].Resource = &anypb.Any{TypeUrl: xds.PolicyType, Value: []byte{0xff}}
	for name, resp := range map[string]*discoveryv3.DeltaDiscoveryResponse{
		"of another service":         policies(t, "shop/cart", policy.SetOf(cart, nil, nil)),
		"of another, under our name": policies(t, "shop/orders", policy.SetOf(cart, nil, nil)),
		"ours, under another name":   policies(t, "shop/cart", first),
		"one that cannot be read":    bad,
		"a resource of another type": {TypeUrl: xds.PolicyType, Resources: []*discoveryv3.Resource{{Name: "shop/orders", Resource: &anypb.Any{TypeUrl: xds.ClusterType}}}},
	} {
		if _, err := a.take(resp); err == nil || a.policies[orders] != held {
			t.Errorf("%s: %v, %+v", name, err, a.policies[orders])
		}
	}
	// Its absence is no policy: the last one stays.
	if changed, err := a.take(removed(xds.PolicyType, "shop/orders")); changed || err != nil || a.policies[orders] != held {
		t.Errorf("%v %v", changed, err)
	}
	if a.retain(map[string]struct{}{}); a.versions(xds.PolicyType)["shop/orders"] == "" {
		t.Error("it is forgotten with the routes")
	}
	if got := newAccepted(nil); got != nil {
		if _, err := got.take(policies(t, "shop/orders", first)); err == nil {
			t.Error("taken by a sidecar that serves nothing")
		}
	}
}

func TestThePolicyOnDiskIsReadBackUnlessItIsOfAnotherService(t *testing.T) {
	a := newAccepted([]mesh.ServiceName{orders})
	take(t, a, policies(t, "shop/orders", policy.SetOf(orders, []uint16{80}, nil)))
	b, err := marshal(a.file())
	if err != nil {
		t.Fatal(err)
	}
	again := newAccepted([]mesh.ServiceName{orders})
	if err := again.unmarshal(b); err != nil || again.policies[orders] == nil || again.versions(xds.PolicyType)["shop/orders"] != a.versions(xds.PolicyType)["shop/orders"] {
		t.Errorf("%v %+v", err, again.policies[orders])
	}
	renamed := newAccepted([]mesh.ServiceName{{Namespace: "shop", Name: "cart"}})
	if err := renamed.unmarshal(b); err != nil || renamed.policies[orders] != nil {
		t.Errorf("%v %+v", err, renamed.policies[orders])
	}
}

func TestEachServiceBesideHasItsOwnPolicy(t *testing.T) {
	cart := mesh.ServiceName{Namespace: "shop", Name: "cart"}
	a := newAccepted([]mesh.ServiceName{orders, cart})
	for i, name := range []mesh.ServiceName{orders, cart} {
		if !take(t, a, policies(t, name.String(), policy.SetOf(name, []uint16{uint16(80 + i)}, nil))) {
			t.Fatal("not taken")
		}
	}
	if a.policies[orders].Exported[0] != 80 || a.policies[cart].Exported[0] != 81 {
		t.Errorf("%+v", a.policies)
	}
	b, err := marshal(a.file())
	if err != nil {
		t.Fatal(err)
	}
	if again := newAccepted([]mesh.ServiceName{cart}); again.unmarshal(b) != nil || again.policies[cart] == nil || again.policies[orders] != nil {
		t.Errorf("read back: %+v", again.policies)
	}
}
