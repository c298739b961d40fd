package file

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/gateway/discovery/resource"
	"github.com/isthmus-mesh/isthmus/internal/health"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
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
	if _, err := resource.Parse("f", []byte(orders+"---\n"+orders)); err == nil || !strings.Contains(err.Error(), "described at line 1 already") {
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
