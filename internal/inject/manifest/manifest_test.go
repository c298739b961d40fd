package manifest

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/inject"
)

var rewrite = flag.Bool("rewrite", false, "write the goldens anew")

func newInjector(t testing.TB) *inject.Injector {
	t.Helper()
	i, err := inject.New(&config.Injection{
		Image: "registry.example/isthmus:v1", Cluster: "west", Gateways: []string{"gateway-0:15012", "gateway-1:15012"}, CA: []string{"ca:15010"},
		Interception: config.ByNode, Inbound: config.PodStrict, Drain: 10e9,
		Requests: config.Resources{CPU: "10m", Memory: "40Mi"}, Limits: config.Resources{Memory: "256Mi"},
	}, []identity.Fingerprint{{1}, {2}})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// The goldens are read by people; that a real API server takes them, integration/kubernetes
// tests.
func TestManifestsAreInjectedAsTheGoldensShow(t *testing.T) {
	for _, name := range []string{"workloads.yaml", "nodes.yaml", "list.yaml", "probes.yaml", "pod.json"} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata", name))
			if err != nil {
				t.Fatal(err)
			}
			out, verdicts, err := Inject(name, data, newInjector(t))
			if err != nil {
				t.Fatal(err)
			}
			var said strings.Builder
			for _, v := range verdicts {
				fmt.Fprintf(&said, "# %s: %s\n", v.Object, v)
			}
			golden := filepath.Join("testdata", name+".injected")
			got := said.String() + string(out)
			if *rewrite {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s, -want +got (if it is meant: go test ./internal/inject/manifest -rewrite):\n%s", golden, diff)
			}
			again, _, err := Inject(name, out, newInjector(t))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(out), string(again)); diff != "" {
				t.Errorf("what is injected is changed by a second time:\n%s", diff)
			}
		})
	}
}

func TestAFileWithoutPodsLeavesAsItCame(t *testing.T) {
	for _, text := range []string{
		"", "\n", "# nothing\n", "---\n", "---\n---\n", "--- # first\na: b\n---\n\n# end", "kind: ConfigMap\napiVersion: v1\ndata:\n    a:   |\n      ---x\n      --- y\n", "[1, 2]\n", "a: 1\r\n---\r\nb:   2\r\n",
		"apiVersion: example.com/v1\nkind: Deployment\nspec:   {}\n", "- a\n-   b\n", "kind: List\nitems:   []\n",
	} {
		out, verdicts, err := Inject("f", []byte(text), newInjector(t))
		if err != nil || string(out) != text || len(verdicts) != 0 {
			t.Errorf("%q became %q, %v, %v", text, out, verdicts, err)
		}
	}
}

func TestAFaultNamesItsDocumentAndLeavesNoOutput(t *testing.T) {
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop}\nspec:\n  containers: [{name: a, image: b"
	for text, want := range map[string]string{
		"a: [\n":            "f: document at line 1: is not YAML",
		"a: b\n---\nc: {\n": "f: document at line 3: is not YAML",
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {}\n": "Deployment a has no spec.template",
		pod + ", securityContext: {runAsUser: 15000}}]\n":                        "f: document at line 1: Pod shop/a: container a has runAsUser 15000",
		pod + ", ports: 3}]\n":         "Pod shop/a: is no pod",
		pod + "}]\n  containers: []\n": "is not the YAML of a pod: ",
		"a: b\n---\nx: &x\n  labels: {a: b}\napiVersion: v1\nkind: Pod\nmetadata:\n  <<: *x\nspec: {containers: [{name: a, image: b}]}\n": "f: document at line 3: Pod without a name: has its labels by a merge key (<<)",
	} {
		out, _, err := Inject("f", []byte(text), newInjector(t))
		if err == nil || !strings.Contains(err.Error(), want) || out != nil {
			t.Errorf("%q: %v, want an error with %q; output %q", text, err, want, out)
		}
	}
}

func TestWhatRepeatsItselfOrNestsWithoutEndIsRefused(t *testing.T) {
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 12; i++ {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	for _, text := range []string{bomb, "a: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "\n"} {
		if _, _, err := Inject("f", []byte(text), newInjector(t)); err == nil || !strings.Contains(err.Error(), "repeats too much") {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	if _, _, err := Inject("f", []byte("a: &a [*a]\n"), newInjector(t)); err == nil {
		t.Error("an alias within what it stands for is read")
	}
}

func FuzzInject(f *testing.F) {
	files, err := filepath.Glob("testdata/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		with := newInjector(t)
		out, _, err := Inject("f", data, with)
		if err != nil {
			return
		}
		again, _, err := Inject("f", out, with)
		if err != nil {
			t.Fatalf("what was written is refused: %v\n%s", err, out)
		}
		if !bytes.Equal(out, again) {
			t.Fatalf("a second time changes\n%s\nto\n%s", out, again)
		}
	})
}
