package inject

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// patched returns p with the patch, read from its JSON as the API server does.
func patched(t testing.TB, p *corev1.Pod, patch []Operation) *corev1.Pod {
	t.Helper()
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	wire, err := json.Marshal(patch)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	var operations []struct {
		Op, Path string
		Value    any
	}
	if err := json.Unmarshal(raw, &tree); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(wire, &operations); err != nil {
		t.Fatal(err)
	}
	for _, o := range operations {
		tree = changed(t, tree, strings.Split(o.Path, "/")[1:], o.Op, o.Value)
	}
	raw, err = json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(raw))
}

// changed does one operation of RFC 6902, as strictly as that says.
func changed(t testing.TB, in any, path []string, op string, v any) any {
	t.Helper()
	key := strings.NewReplacer("~1", "/", "~0", "~").Replace(path[0])
	switch x := in.(type) {
	case map[string]any:
		old, there := x[key]
		switch {
		case len(path) > 1 && !there, op == Remove && !there:
			t.Fatalf("path %v: there is no %s", path, key)
		case len(path) > 1:
			x[key] = changed(t, old, path[1:], op, v)
		case op == Remove:
			delete(x, key)
		default:
			x[key] = v
		}
		return x
	case []any:
		if key == "-" {
			return append(x, v)
		}
		n, err := strconv.Atoi(key)
		if err != nil || n > len(x) || len(path) > 1 || op != Add {
			t.Fatalf("path %v: no such place in a list of %d", path, len(x))
		}
		return slices.Insert(x, n, v)
	}
	t.Fatalf("path %v leads into a %T", path, in)
	return nil
}

func TestPatchesFitWhatIsThere(t *testing.T) {
	for _, pod := range []string{`{}`, `{"metadata": {"labels": {"isthmus.io/sidecar": "false", "a~b/c": "d"}, "annotations": {"x": "y"}}}`,
		web("", `, "volumes": [{"name": "v"}], "initContainers": [{"name": "a"}, {"name": "b"}]`)} {
		got := injected(t, parse(t, pod), newInjector(t, settingsForTest()))
		if got.Labels[SidecarLabel] != "true" || got.Spec.InitContainers[0].Name != SidecarContainer || len(got.Spec.Volumes) < 2 {
			t.Errorf("%s became %+v", pod, got)
		}
	}
}
