package policy

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestGatewaysCallForWhoHasNoSidecarOnlyByAPolicyThatNamesThemOrWithAnEntranceByNone(t *testing.T) {
	orders := mesh.ServiceName{Namespace: "shop", Name: "orders"}
	gateway := func(cluster mesh.ClusterName) *Caller {
		return &Caller{ID: identity.ID{TrustDomain: "mesh.example", Cluster: cluster, Gateway: "g-1"}}
	}
	named := func(s string) []Callers {
		c, err := ParseCallers(s)
		if err != nil {
			t.Fatal(err)
		}
		if c.String() != s {
			t.Errorf("%s is written %s", s, c)
		}
		return []Callers{c}
	}
	allow := func(from []Callers) Policy {
		return Policy{Namespace: "shop", Name: "a", Action: Allow, Rules: []Rule{{From: from}}}
	}
	deny := func(from ...Callers) Policy {
		return Policy{Namespace: "shop", Name: "d", Action: Deny, Rules: []Rule{{From: from}}}
	}
	try := deny()
	try.DryRun = true
	eastGateways := named("spiffe://mesh.example/cluster/east/gateway/*")
	for name, test := range map[string]struct {
		policies []Policy
		allowed  bool // a gateway of east, the service's own cluster
		far      bool // one of west
	}{
		"no policy":                        {nil, true, true},
		"a policy that only tries":         {[]Policy{try}, true, true},
		"every workload is allowed":        {[]Policy{allow([]Callers{everybody})}, false, false},
		"a workload is denied":             {[]Policy{deny(Callers{Namespace: "zoo"})}, false, false},
		"everybody is denied":              {[]Policy{allow(eastGateways), deny()}, false, false},
		"gateways of a cluster":            {[]Policy{allow(eastGateways)}, true, false},
		"one gateway":                      {[]Policy{allow(named("spiffe://mesh.example/cluster/west/gateway/g-1"))}, false, true},
		"any gateway of the trust domain":  {[]Policy{allow([]Callers{{Gateway: Any}})}, true, true},
		"any but one":                      {[]Policy{allow([]Callers{{Gateway: Any}}), deny(Callers{Gateway: Any, Cluster: "west"})}, true, false},
		"another gateway":                  {[]Policy{allow(named("spiffe://mesh.example/cluster/east/gateway/g-2"))}, false, false},
		"another trust domain's":           {[]Policy{allow(named("spiffe://other.example/cluster/*/gateway/*"))}, false, false},
		"anonymous ones, who are not they": {[]Policy{allow([]Callers{{Anonymous: true}})}, false, false},
	} {
		a, err := Compile(SetOf(orders, []uint16{80}, test.policies), "mesh.example", "east")
		if err != nil {
			t.Fatal(err)
		}
		for cluster, want := range map[mesh.ClusterName]bool{"east": test.allowed, "west": test.far} {
			c := gateway(cluster)
			if d := a.Plain(c, 80, true); d.Allowed != want {
				t.Errorf("%s: a gateway of %s: %v (%s)", name, cluster, d.Allowed, a.Explain(d.Verdict, c))
			}
			if d := a.Plain(c, 80, false); d.Allowed != (want && d.Cause == ByAllow) {
				t.Errorf("%s: a gateway of %s where there is no entrance: %v (%s)", name, cluster, d.Allowed, a.Explain(d.Verdict, c))
			}
			if d := a.Connection(c, 80); d.Allowed || d.NeedsRequest() {
				t.Errorf("%s: a sidecar lets a gateway in", name)
			}
		}
		if d := a.Plain(gateway("west"), 81, true); d.Allowed || d.Cause != NotExported {
			t.Errorf("%s: a port that is not exported: %s", name, d.Cause)
		}
		web := &Caller{ID: identity.ID{TrustDomain: "mesh.example", Cluster: "west", Namespace: "shop", ServiceAccount: "web"}}
		if d, o := a.Plain(web, 80, true), a.Opaque(web, 80); d.Verdict.Allowed != o.Verdict.Allowed {
			t.Errorf("%s: the entrance changes what workloads may", name)
		}
	}
}

func TestAPatternOfGatewaysHasNoNamespace(t *testing.T) {
	for _, c := range []Callers{{Gateway: "g", Namespace: "shop"}, {Gateway: "*", ServiceAccount: "a"}, {Gateway: "G"}, {Gateway: "g", Anonymous: true}} {
		if c.Check() == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
