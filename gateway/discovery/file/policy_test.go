package file

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
)

const authorization = `apiVersion: isthmus.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: callers}
spec:
  services: [orders]
  rules:
    - from:
        - front/web
        - {cluster: west, namespace: front}
        - spiffe://*/cluster/east/ns/*/sa/cron
      ports: [80]
      methods: [GET]
      paths: [/orders, /orders/*]
      headers:
        - {name: x-tenant, values: [a, b*]}
        - {name: x-trace}
---
apiVersion: isthmus.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: not-zoo}
spec:
  action: deny
  dryRun: true
  rules: [{from: [zoo/*]}]
---
apiVersion: isthmus.io/v1alpha1
kind: Service
metadata: {namespace: shop, name: cart}
spec: {allow: [shop/*, {namespace: front}]}
`

func TestPoliciesAreReadInBothForms(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.yaml", authorization)
	got, err := Check(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []policy.Policy{
		{Namespace: "shop", Name: "callers", Services: []string{"orders"}, Action: policy.Allow, Rules: []policy.Rule{{
			From:  []policy.Callers{{Namespace: "front", ServiceAccount: "web"}, {Cluster: "west", Namespace: "front"}, {TrustDomain: "*", Cluster: "east", Namespace: "*", ServiceAccount: "cron"}},
			Ports: []uint16{80}, Methods: []string{"GET"}, Paths: []string{"/orders", "/orders/*"},
			Headers: []policy.Header{{Name: "x-tenant", Values: []string{"a", "b*"}}, {Name: "x-trace"}},
		}}},
		{Namespace: "shop", Name: "not-zoo", Action: policy.Deny, DryRun: true, Rules: []policy.Rule{{From: []policy.Callers{{Namespace: "zoo", ServiceAccount: "*"}}}}},
		{Namespace: "shop", Services: []string{"cart"}, Action: policy.Allow, Rules: []policy.Rule{
			{From: []policy.Callers{{Namespace: "shop", ServiceAccount: "*"}}}, {From: []policy.Callers{{Namespace: "front"}}},
		}},
	}
	if diff := cmp.Diff(want, got.Policies); diff != "" {
		t.Error(diff)
	}
	if len(got.Services) != 1 || got.Services[0].Service.Name != (mesh.ServiceName{Namespace: "shop", Name: "cart"}) {
		t.Errorf("%+v", got.Services)
	}
}

func TestAnEmptyAllowListAllowsNobody(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.yaml", strings.ReplaceAll(authorization, "{allow: [shop/*, {namespace: front}]}", "{allow: []}"))
	got, err := Check(dir)
	if err != nil || len(got.Policies) != 3 || got.Policies[2].Rules != nil || got.Policies[2].Action != policy.Allow {
		t.Errorf("%+v, %v", got.Policies, err)
	}
}

func TestPoliciesAreNotKnownWhileAFileHasNeverBeenReadWell(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.yaml", authorization)
	put(t, dir, "b.yaml", "kind: AuthorizationPolicie\n")
	s := run(t, dir)
	until(t, s, "read", func(set []discovery.Described, st []Status) bool { return len(st) == 2 })
	if p, _ := s.Policies(); p != nil || s.PoliciesUnknown() != "b.yaml has never been read well" {
		t.Errorf("%+v, %q", p, s.PoliciesUnknown())
	}
	if got, err := Check(dir); err == nil || got.Policies != nil {
		t.Errorf("%+v, %v", got.Policies, err)
	}
	put(t, dir, "b.yaml", strings.ReplaceAll(strings.Split(authorization, "---\n")[1], "not-zoo", "not-ape"))
	until(t, s, "written well", func(_ []discovery.Described, st []Status) bool { return st[1].Err == "" })
	if p, _ := s.Policies(); len(p) != 4 || s.PoliciesUnknown() != "" {
		t.Errorf("%+v, %q", p, s.PoliciesUnknown())
	}
	// What is broken later keeps what it said, and so does a directory that is.
	put(t, dir, "b.yaml", "}")
	until(t, s, "broken", func(_ []discovery.Described, st []Status) bool { return st[1].Err != "" })
	if p, _ := s.Policies(); len(p) != 4 || s.PoliciesUnknown() != "" {
		t.Errorf("%+v, %q", p, s.PoliciesUnknown())
	}
	put(t, dir, "c.yaml", "}")
	until(t, s, "a new file, broken", func(_ []discovery.Described, st []Status) bool { return len(st) == 3 })
	if p, _ := s.Policies(); len(p) != 4 || s.PoliciesUnknown() != "c.yaml has never been read well" {
		t.Errorf("%+v, %q", p, s.PoliciesUnknown())
	}
	for _, f := range []string{"b.yaml", "c.yaml"} {
		if err := os.Remove(filepath.Join(dir, f)); err != nil {
			t.Fatal(err)
		}
	}
	until(t, s, "removed", func(_ []discovery.Described, st []Status) bool { return len(st) == 1 })
	if p, _ := s.Policies(); len(p) != 3 {
		t.Errorf("%+v", p)
	}
}

func TestThePoliciesOfANamespaceAreBounded(t *testing.T) {
	long := "/" + strings.Repeat("a", policy.MaxText-1)
	for name, text := range map[string]string{
		"namespace shop has more than 256 policies":                        strings.Repeat("---\napiVersion: isthmus.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {namespace: shop, name: p%d}\nspec: {rules: []}\n", policy.MaxPolicies+1),
		"the policies of namespace shop are larger than 1024 KiB together": strings.Repeat("---\napiVersion: isthmus.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {namespace: shop, name: p%d}\nspec: {action: deny, rules: [{paths: ["+strings.Repeat(long+",", 100)+long+"]}]}\n", 30),
	} {
		for i := 0; strings.Contains(text, "%d"); i++ {
			text = strings.Replace(text, "%d", strconv.Itoa(i), 1)
		}
		dir := t.TempDir()
		put(t, dir, "a.yaml", text)
		if got, err := Check(dir); got.Policies != nil || err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%d policies, %v, want %s", len(got.Policies), err, name)
		}
	}
}

func TestOfTwoFilesWithTheSamePolicyBothAreInForce(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.yaml", authorization)
	put(t, dir, "b.yaml", strings.Split(authorization, "---\n")[1])
	got, err := Check(dir)
	want := filepath.Join(dir, "b.yaml") + ":1: metadata.name: AuthorizationPolicy shop/not-zoo is at " + filepath.Join(dir, "a.yaml") + ":18 already, and both are in force: remove one"
	if len(got.Policies) != 4 || err == nil || err.Error() != want {
		t.Errorf("%d policies, %v", len(got.Policies), err)
	}
}
