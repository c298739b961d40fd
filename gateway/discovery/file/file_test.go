package file

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/health"
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

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAServiceIsReadWithItsExport(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"two documents":     {"a.yaml": orders + "---\n" + export},
		"two files":         {"a.yml": orders, "b.yaml": strings.Replace(export, "v1alpha1", "v1beta1", 1)},
		"export: true":      {"a.yaml": strings.Replace(orders, "spec:", "spec:\n  export: true", 1)},
		"others beside it":  {"a.yaml": orders + "---\n" + export, ".hidden.yaml": "}", "a.yaml~": "}", "README": "}", "#a.yaml#": "}"},
		"JSON of an export": {"a.yaml": orders, "b.json": `{"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", "metadata": {"namespace": "shop", "name": "orders"}}`},
	} {
		dir := t.TempDir()
		for f, text := range files {
			put(t, dir, f, text)
		}
		all, err := Check(dir)
		got := all.Services
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %+v, %v", name, got, err)
			continue
		}
		s := got[0].Service
		want := []mesh.Endpoint{{Instance: "10.0.1.7", Address: "10.0.1.7:8080", Weight: 1}, {Instance: "orders-2", Address: "10.0.1.8:8081", Weight: 2}}
		if s.Name.String() != "shop/orders" || s.Export == nil || !*s.Export || len(s.Ports) != 1 || s.Ports[0].Protocol != mesh.HTTP || s.Ports[0].Endpoints[0] != want[0] || s.Ports[0].Endpoints[1] != want[1] {
			t.Errorf("%s: %+v", name, s)
		}
		if c := got[0].Check; c.Kind != health.HTTP || c.Path != "/healthz" || c.Interval != 2*time.Second || c.Timeout != health.DefaultTimeout {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func TestEveryFaultOfAResourceIsToldAtOnce(t *testing.T) {
	_, err := parse("f.yaml", []byte(`apiVersion: isthmus.io/v1alpha1
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
		`f.yaml:24: kind: "Sevrice" is not understood: write apiVersion: isthmus.io/v1alpha1 and kind: Service or AuthorizationPolicy, or apiVersion: multicluster.x-k8s.io/v1alpha1 and kind: ServiceExport`,
		`f.yaml:26: kind: is missing: write apiVersion: isthmus.io/v1alpha1 and kind: Service or AuthorizationPolicy, or apiVersion: multicluster.x-k8s.io/v1alpha1 and kind: ServiceExport`,
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
		c, err := parse("f", []byte(head+spec))
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		got := "nobody's word"
		if e := c.services[0].Service.Export; e != nil {
			got = fmt.Sprint(*e)
		}
		if got = fmt.Sprint(got, ", ", c.services[0].Serves); got != want {
			t.Errorf("%s: %s, want %s", spec, got, want)
		}
	}
	for spec, want := range map[string]string{
		"{}":                     "f:4: spec.ports: is missing",
		`{serves: ["shop/web"]}`: `f:4: spec.serves[0]: "shop/web"`,
		`{serves: [web, "*"]}`:   `f:4: spec.serves[1]: "*"`,
	} {
		if _, err := parse("f", []byte(head+spec)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", spec, err, want)
		}
	}
}

func TestOfTwoFilesWithTheSameServiceTheFirstIsBelieved(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.yaml", orders)
	put(t, dir, "b.yaml", strings.ReplaceAll(orders, "10.0.1.7", "10.9.9.9"))
	all, err := Check(dir)
	got := all.Services
	if len(got) != 1 || got[0].Service.Ports[0].Endpoints[0].Address != "10.0.1.7:8080" {
		t.Errorf("got %+v", got)
	}
	want := filepath.Join(dir, "b.yaml") + ":1: metadata.name: shop/orders is described at " + filepath.Join(dir, "a.yaml") + ":1 already, which is used: remove one"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if _, err := parse("f", []byte(orders+"---\n"+orders)); err == nil || !strings.Contains(err.Error(), "described at line 1 already") {
		t.Errorf("twice in one file: %v", err)
	}
}

// run starts a source that ends with the test.
func run(t *testing.T, dir string) *Source {
	t.Helper()
	s, err := New(dir, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// until waits for a state of the source.
func until(t *testing.T, s *Source, what string, good func([]discovery.Described, []Status) bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		set, past := s.store.Snapshot()
		status, changed := s.statuses.Snapshot()
		if set != nil && good(set, status) {
			return
		}
		select {
		case <-past:
		case <-changed:
		case <-deadline:
			t.Fatalf("%s: never; last %+v, %+v", what, set, status)
		}
	}
}

func TestABadFileKeepsItsLastGoodStateAndHoldsUpNoOther(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.yaml", orders)
	s := run(t, dir)
	until(t, s, "the first", func(set []discovery.Described, st []Status) bool { return len(set) == 1 && st[0].Err == "" })

	put(t, dir, "a.yaml", strings.Replace(orders, "port: 80", "prot: 80", 1))
	put(t, dir, "b.yaml", strings.ReplaceAll(orders, "orders", "cart"))
	until(t, s, "bad beside good", func(set []discovery.Described, st []Status) bool {
		return len(set) == 2 && len(st) == 2 && strings.Contains(st[0].Err, "prot: there is no such key: write port") && st[0].Services == 1 && st[1].Err == ""
	})
	put(t, dir, "a.yaml", "")
	until(t, s, "an empty file", func(set []discovery.Described, st []Status) bool {
		return len(set) == 2 && strings.Contains(st[0].Err, "is empty")
	})
	put(t, dir, "new", strings.ReplaceAll(orders, "10.0.1.7", "10.9.9.9"))
	if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	until(t, s, "renamed over it", func(set []discovery.Described, st []Status) bool {
		return len(set) == 2 && set[1].Service.Ports[0].Endpoints[0].Address == "10.9.9.9:8080" && st[0].Err == ""
	})
	if err := os.Remove(filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	until(t, s, "removed", func(set []discovery.Described, st []Status) bool { return len(set) == 1 && len(st) == 1 })
}

func TestADirectoryThatGoesAwayKeepsTheLastGoodState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "resources")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "a.yaml", orders)
	s := run(t, dir)
	until(t, s, "the first", func(set []discovery.Described, _ []Status) bool { return len(set) == 1 })
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	until(t, s, "gone", func(set []discovery.Described, st []Status) bool {
		return len(set) == 1 && st[0].File == "." && strings.Contains(st[0].Err, "does not exist")
	})
	// Another one in its place is found by looking, the kernel says nothing.
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "b.yaml", strings.ReplaceAll(orders, "orders", "cart"))
	until(t, s, "replaced", func(set []discovery.Described, st []Status) bool {
		return len(set) == 1 && set[0].Service.Name.Name == "cart" && len(st) == 1
	})
}

func TestADirectoryThatIsMissingAtTheStartIsAnError(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	s, err := New(dir, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Run(t.Context())
	if err == nil || err.Error() != "resources directory "+dir+" does not exist: create it, or remove the key resources" {
		t.Errorf("got %v", err)
	}
	if set, _ := s.Snapshot(); set != nil {
		t.Errorf("a set is known: %v", set)
	}
}

func TestTheQuickstartsResourcesAreGood(t *testing.T) {
	all, err := Check(filepath.Join("..", "..", "..", "configs", "quickstart", "west", "resources"))
	got := all.Services
	if err != nil || len(got) != 1 || !*got[0].Service.Export {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(orders + "---\n" + export))
	f.Add([]byte("kind: Service\napiVersion: isthmus.io/v1alpha1\nspec: {endpoints: ['[::1]:1', {address: '::'}], ports: [{port: 1}]}"))
	f.Add([]byte(authorization))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parse("f", data)
		if err != nil {
			if len(c.services)+len(c.exports)+len(c.policies) > 0 {
				t.Fatal("a bad file has content")
			}
			if _, ok := err.(strictyaml.Faults); !ok {
				t.Fatalf("not faults: %v", err)
			}
			return
		}
		for i := range c.policies { // what is taken is what sidecars take
			p := &c.policies[i].Policy
			name := "any"
			if p.Services != nil {
				name = p.Services[0]
			}
			set := policy.SetOf(mesh.ServiceName{Namespace: p.Namespace, Name: name}, nil, []policy.Policy{*p})
			if _, err := policy.Compile(set, "mesh.example", "east"); err != nil {
				t.Fatalf("taken: %v", err)
			}
		}
		for _, s := range c.services {
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

func TestASourceMovesToAnotherDirectoryUnlessThatCannotBeRead(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	put(t, one, "a.yaml", orders)
	put(t, two, "b.yaml", strings.ReplaceAll(orders, "orders", "cart"))
	s := run(t, one)
	named := func(name string) func([]discovery.Described, []Status) bool {
		return func(set []discovery.Described, st []Status) bool {
			return len(set) == 1 && set[0].Service.Name.Name == name && len(st) == 1
		}
	}
	until(t, s, "the first", named("orders"))
	if err := s.Move(t.Context(), filepath.Join(one, "nowhere")); err == nil {
		t.Error("moved to nowhere")
	}
	until(t, s, "the first, still", named("orders"))
	if err := s.Move(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	until(t, s, "the second", named("cart"))
	put(t, one, "c.yaml", strings.ReplaceAll(orders, "orders", "pay"))
	put(t, two, "b.yaml", strings.ReplaceAll(orders, "orders", "pay"))
	until(t, s, "the second follows", named("pay"))
	if err := s.Move(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	until(t, s, "none", func(set []discovery.Described, st []Status) bool { return len(set)+len(st) == 0 })
}
