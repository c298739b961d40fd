package resource

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/strictyaml"
)

const orders = `apiVersion: isthmus.io/v1alpha1
kind: Service
metadata: {namespace: shop, name: orders}
spec:
  ports: [{port: 80, protocol: http, targetPort: 8080}]
  endpoints:
    - 10.0.1.7
    - {address: 10.0.1.8:8081, instance: orders-2, weight: 2}
  health: {path: /healthz, interval: 2s}
`

const export = `apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceExport
metadata: {namespace: shop, name: orders}
`

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

func TestEveryFaultOfAResourceIsToldAtOnce(t *testing.T) {
	_, err := Parse("f.yaml", []byte(`apiVersion: isthmus.io/v1alpha1
kind: Service
metadata: {namespace: Shop}
spec:
  ports:
    - {port: 80, protocol: h2}
    - {port: 80}
    - {}
  endpoints:
    - {instance: a}
    - 10.0.1.8:8081
    - ":1"
    - {address: a, weight: 0}
    - {address: a}
    - {address: b, instance: a}
  health: {type: tcp, path: /}
---
apiVersion: v1
kind: Service
---
apiVersion: x
kind: ServiceExport
---
kind: Sevrice
---
a: b
---
apiVersion: isthmus.io/v1alpha1
kind: Service
metadata: {namespace: shop, name: cart}
spec: {prots: []}
`))
	want := []string{
		`f.yaml:3: metadata.namespace: "Shop": use lower-case letters, digits and inner hyphens`,
		`f.yaml:3: metadata.name: is missing: write metadata: {namespace: shop, name: orders}`,
		`f.yaml:6: spec.ports[0].protocol: "h2" is not spoken: write http, grpc, http2, tcp or auto`,
		`f.yaml:7: spec.ports[1].port: 80 is spec.ports[0] already: remove one`,
		`f.yaml:8: spec.ports[2].port: is missing: write 1 to 65535`,
		`f.yaml:10: spec.endpoints[0]: has no address: write {address: 10.0.1.7:8080}`,
		`f.yaml:11: spec.endpoints[1]: "10.0.1.8:8081" has a port, but the service has 3: write only the host here, and targetPort beside each port`,
		`f.yaml:12: spec.endpoints[2]: ":1" cannot be dialled: write host or host:port, such as 10.0.1.7:8080`,
		`f.yaml:13: spec.endpoints[3].weight: 0 is out of range: write 1 to 1000`,
		`f.yaml:14: spec.endpoints[4].address: a is spec.endpoints[3] already: remove one`,
		`f.yaml:15: spec.endpoints[5].instance: a is spec.endpoints[3] already: write another name`,
		`f.yaml:16: spec.health.path: a tcp check asks for no path: remove it, or write type: http`,
		`f.yaml:18: apiVersion: "v1" has no Service with endpoints: write isthmus.io/v1alpha1`,
		`f.yaml:21: apiVersion: "x" has no ServiceExport: write multicluster.x-k8s.io/v1alpha1`,
		`f.yaml:24: kind: "Sevrice" is not understood: write apiVersion: isthmus.io/v1alpha1 and kind: Service or AuthorizationPolicy, apiVersion: multicluster.x-k8s.io/v1alpha1 and kind: ServiceExport, or apiVersion: gateway.networking.k8s.io/v1 and kind: HTTPRoute, GRPCRoute or ReferenceGrant`,
		`f.yaml:26: kind: is missing: write apiVersion: isthmus.io/v1alpha1 and kind: Service or AuthorizationPolicy, apiVersion: multicluster.x-k8s.io/v1alpha1 and kind: ServiceExport, or apiVersion: gateway.networking.k8s.io/v1 and kind: HTTPRoute, GRPCRoute or ReferenceGrant`,
		`f.yaml:31: spec.prots: there is no such key: write ports`,
	}
	if err == nil {
		t.Fatal("all of it was taken")
	}
	got := strings.Split(err.Error(), "\n")
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("from line %d on, got:\n%s\nwant:\n%s", i, strings.Join(got[min(i, len(got)):], "\n"), strings.Join(want[min(i, len(want)):], "\n"))
		}
	}
}

func TestAResourceSaysWhoServesAndWhatIsExported(t *testing.T) {
	const head = "apiVersion: isthmus.io/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: orders}\nspec: "
	for spec, want := range map[string]string{
		"{serves: [canary, batch.v2]}":                               "nobody's word, [canary batch.v2]",
		"{export: false}":                                            "false, []",
		"{export: true, serves: [canary]}":                           "true, [canary]",
		"{ports: [{port: 80}]}":                                      "nobody's word, []",
		"{ports: [{port: 80}], endpoints: [10.0.0.1]}":               "false, []",
		"{ports: [{port: 80}], endpoints: [10.0.0.1], export: true}": "true, []",
	} {
		c, err := Parse("f", []byte(head+spec))
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		got := "nobody's word"
		if e := c.Services[0].Service.Export; e != nil {
			got = fmt.Sprint(*e)
		}
		if got = fmt.Sprint(got, ", ", c.Services[0].Serves); got != want {
			t.Errorf("%s: %s, want %s", spec, got, want)
		}
	}
	for spec, want := range map[string]string{
		"{}":                     "f:4: spec.ports: is missing",
		`{serves: ["shop/web"]}`: `f:4: spec.serves[0]: "shop/web"`,
		`{serves: [web, "*"]}`:   `f:4: spec.serves[1]: "*"`,
	} {
		if _, err := Parse("f", []byte(head+spec)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", spec, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(orders + "---\n" + export))
	f.Add([]byte("kind: Service\napiVersion: isthmus.io/v1alpha1\nspec: {endpoints: ['[::1]:1', {address: '::'}], ports: [{port: 1}]}"))
	f.Add([]byte(authorization))
	f.Add([]byte(retriedHTTP + "---\n" + retriedGRPC))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if err != nil {
			if len(c.Services)+len(c.Exports)+len(c.Policies) > 0 {
				t.Fatal("a bad file has content")
			}
			if _, ok := err.(strictyaml.Faults); !ok {
				t.Fatalf("not faults: %v", err)
			}
			return
		}
		for i := range c.Policies { // what is taken is what sidecars take
			p := &c.Policies[i].Policy
			name := "any"
			if p.Services != nil {
				name = p.Services[0]
			}
			set := policy.SetOf(mesh.ServiceName{Namespace: p.Namespace, Name: name}, nil, []policy.Policy{*p})
			if _, err := policy.Compile(set, "mesh.example", "east"); err != nil {
				t.Fatalf("taken: %v", err)
			}
		}
		for _, s := range c.Services {
			if mesh.CheckLabel(s.Service.Name.Name) != nil {
				t.Fatalf("taken: %+v", s)
			}
			for _, p := range s.Service.Ports {
				for _, e := range p.Endpoints {
					if e.Weight == 0 || e.Instance == "" || e.Address == "" || p.Port == 0 {
						t.Fatalf("taken: %+v", p)
					}
				}
			}
		}
	})
}

func TestEveryFaultOfAPolicyIsToldAtOnce(t *testing.T) {
	_, err := Parse("f.yaml", []byte(`apiVersion: isthmus.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: a}
spec:
  action: audit
  services: []
  rules:
    - from: [front]
      ports: [0]
      methods: []
      paths: [/a/../b]
    - to: [x]
---
apiVersion: isthmus.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: b}
spec:
  rules:
    - from: [{namespace: Front}]
      paths: ["/a*"]
      headers: [{name: X-A, values: []}]
    - methods: [GET]
---
apiVersion: isthmus.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: c}
spec: {action: deny}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: d}
---
apiVersion: isthmus.io/v1alpha1
kind: Service
metadata: {namespace: shop, name: cart}
spec:
  allow:
    - front/*
    - {namespace: "*", cluster: West}
---
apiVersion: isthmus.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: e}
spec: {rules: []}
---
apiVersion: isthmus.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: e}
spec: {rules: []}
`))
	want := []string{
		`f.yaml:8: spec.rules[0].from[0]: callers "front": write namespace/account, such as front/web or front/*, or spiffe://DOMAIN/cluster/CLUSTER/ns/NAMESPACE/sa/ACCOUNT with * for any of them`,
		`f.yaml:12: spec.rules[1].to: there is no such key: write one of from, headers, methods, paths, ports`,
		`f.yaml:19: spec.rules[0].from[0]: namespace: "Front": use lower-case letters, digits and inner hyphens`,
		`f.yaml:20: spec.rules[0].paths[0]: "/a*": * may only stand at the end, behind a slash`,
		`f.yaml:21: spec.rules[0].headers[0].values: names none: remove it for any`,
		`f.yaml:21: spec.rules[0].headers[0].name: "X-A": write it in lower case`,
		`f.yaml:22: spec.rules[1].from: is missing: write who may call, such as [front/web]; ["*"] is everybody in the mesh`,
		`f.yaml:27: spec.rules: is missing: write who may or may not call, such as [{from: [front/web]}]`,
		`f.yaml:29: apiVersion: "security.istio.io/v1" has no AuthorizationPolicy that is read here: write isthmus.io/v1alpha1`,
		`f.yaml:39: spec.allow[1]: cluster: "West": use lower-case letters, digits and inner hyphens`,
		`f.yaml:48: metadata.name: AuthorizationPolicy shop/e is at line 41 already: join the two`,
	}
	if err == nil {
		t.Fatal("all of it was taken")
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Error(diff)
	}
}
