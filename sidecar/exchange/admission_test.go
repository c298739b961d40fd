package exchange

import (
	"net"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/authorize"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

func TestADecisionAboutARequestAllocatesNothing(t *testing.T) {
	orders := mesh.ServiceName{Namespace: "shop", Name: "orders"}
	web := policy.Callers{Namespace: "shop", ServiceAccount: "web"}
	policies := map[string][]policy.Policy{
		"by the connection": nil,
		"by the request": {
			{Namespace: "shop", Name: "deny", Action: policy.Deny, Rules: []policy.Rule{{Paths: []string{"/admin/*"}}, {Headers: []policy.Header{{Name: "x-debug"}}}}},
			{Namespace: "shop", Name: "allow", Action: policy.Allow, Rules: []policy.Rule{{From: []policy.Callers{web}, Methods: []string{"GET"}, Paths: []string{"/a/*"}}}},
		},
	}
	observer, err := authorize.New(authorize.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range policies {
		a, err := policy.Compile(policy.SetOf(orders, nil, p), "mesh.example", "east")
		if err != nil {
			t.Fatal(err)
		}
		var store state.Store[*policy.Authorizer]
		access := NewAdmission(mesh.Destination{Service: orders, Port: 80}, &store, observer)
		caller := policy.Caller{ID: identity.ID{TrustDomain: "mesh.example", Cluster: "east", Namespace: "shop", ServiceAccount: "web"}}
		here, there := net.Pipe()
		defer here.Close()
		defer there.Close()
		h := &session{buffers: takeBuffers(), s: &Server{Admission: access}, client: &Client{Accepted: here, Caller: &caller}}
		head := []byte("GET /x/..//a/%62?q HTTP/1.1\r\nHost: orders\r\nX-A: 1\r\n\r\n")
		if n, err := h.req.Parse(head); err != nil || n != len(head) {
			t.Fatal(n, err)
		}
		if refused := access.request(h); refused == nil || refused.Status != 503 {
			t.Errorf("%s: before the policy is known: %v", name, refused)
		}
		store.Set(a)
		if n := testing.AllocsPerRun(100, func() {
			if refused := access.request(h); refused != nil {
				t.Fatalf("%s: %s", name, refused.Detail)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		if want := map[string]string{"by the request": "/a/b"}[name]; string(h.rewrite.Path) != want {
			t.Errorf("%s: goes on with path %q, want %q", name, h.rewrite.Path, want)
		}
	}
}
