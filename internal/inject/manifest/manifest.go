package manifest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	yaml "go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/internal/inject"
)

// Bounds on what is read.
const (
	MaxBytes     = 64 << 20 // of a stream
	maxDocuments = 10_000
	maxObjects   = 10_000  // of a list
	maxNodes     = 1 << 20 // of a document
	maxDepth     = 200
)

// Verdict is what became of one object that holds a pod.
type Verdict struct {
	Object string // such as Deployment shop/orders
	inject.Result
}

// Inject returns data with a sidecar in every pod and pod template, and what became of each.
// The source names data in errors. An error names every pod that is refused; then there is
// no output.
func Inject(source string, data []byte, with *inject.Injector) ([]byte, []Verdict, error) {
	if len(data) > MaxBytes {
		return nil, nil, fmt.Errorf("%s is larger than %d MiB: split it", source, MaxBytes>>20)
	}
	var out bytes.Buffer
	var verdicts []Verdict
	var faults []error
	docs := split(data)
	if len(docs) > maxDocuments {
		return nil, nil, fmt.Errorf("%s has more than %d documents: split it", source, maxDocuments)
	}
	for _, d := range docs {
		text, v, err := document(d.body, with)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: document at line %d: %w", source, d.line, err))
			continue
		}
		verdicts = append(verdicts, v...)
		out.Write(d.marker)
		out.Write(text)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, nil, err
	}
	return out.Bytes(), verdicts, nil
}

// part is one document of a stream, with the marker before it.
type part struct {
	marker, body []byte
	line         int
}

// split cuts a stream at its markers, lines that begin with "---": inside of a document no
// line can.
func split(data []byte) []part {
	var parts []part
	current := part{line: 1}
	line := 0
	for rest := data; len(rest) > 0; {
		line++
		text := rest
		if end := bytes.IndexByte(rest, '\n'); end >= 0 {
			text = rest[:end+1]
		}
		rest = rest[len(text):]
		if after, ok := bytes.CutPrefix(text, []byte("---")); ok && (len(after) == 0 || strings.ContainsRune(" \t\r\n", rune(after[0]))) && len(bytes.TrimSpace(withoutComment(after))) == 0 {
			if len(current.marker) > 0 || len(current.body) > 0 {
				parts = append(parts, current)
			}
			current = part{marker: text, line: line + 1}
			continue
		}
		current.body = append(current.body, text...)
	}
	return append(parts, current)
}

func withoutComment(text []byte) []byte {
	before, _, _ := bytes.Cut(text, []byte(" #"))
	return before
}

// document returns one document with sidecars.
func document(body []byte, with *inject.Injector) ([]byte, []Verdict, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(body, &root); err != nil {
		return nil, nil, fmt.Errorf("is not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(root.Content) == 0 || root.Content[0].Kind != yaml.MappingNode {
		return body, nil, nil
	}
	if n := size(&root, 0, 0); n > maxNodes {
		return nil, nil, fmt.Errorf("has more than %d values, is nested deeper than %d levels, or repeats too much: split it", maxNodes, maxDepth)
	}
	tree := copyOf(&root)
	verdicts, err := object(tree.Content[0], with, false)
	if err != nil {
		return nil, nil, err
	}
	changed := false
	for _, v := range verdicts {
		changed = changed || len(v.Patch) > 0
	}
	if !changed {
		return body, verdicts, nil
	}
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(tree), e.Close()); err != nil {
		return nil, nil, fmt.Errorf("write it again: %w", err)
	}
	return out.Bytes(), verdicts, nil
}

// size counts the values of a tree, what aliases repeat included, up to a bit more than
// maxNodes. An alias may be within what it stands for.
func size(n *yaml.Node, counted, depth int) int {
	if depth > maxDepth {
		return maxNodes + 1
	}
	for _, c := range resolve(n).Content {
		if counted > maxNodes {
			break
		}
		counted = size(c, counted+1, depth+1)
	}
	return counted
}

// templateOf returns where an object of a kind has its pod, below the object; nil: nowhere.
// An empty path is the object itself.
func templateOf(apiVersion, kind string) ([]string, bool) {
	group, _, grouped := strings.Cut(apiVersion, "/")
	if !grouped {
		group = ""
	}
	switch group + "/" + kind {
	case "/Pod":
		return nil, true
	case "/PodTemplate":
		return []string{"template"}, true
	case "/ReplicationController", "apps/Deployment", "apps/StatefulSet", "apps/DaemonSet", "apps/ReplicaSet", "batch/Job":
		return []string{"spec", "template"}, true
	case "batch/CronJob":
		return []string{"spec", "jobTemplate", "spec", "template"}, true
	}
	return nil, false
}

// object gives the pods of one object their sidecars, in place. Lists in lists there are none.
func object(n *yaml.Node, with *inject.Injector, listed bool) ([]Verdict, error) {
	apiVersion, kind := text(n, "apiVersion"), text(n, "kind")
	if items := value(n, "items"); !listed && strings.HasSuffix(kind, "List") && items != nil && items.Kind == yaml.SequenceNode {
		return list(items, with)
	}
	path, ok := templateOf(apiVersion, kind)
	if !ok {
		return nil, nil
	}
	name := kind + " " + named(n)
	template := n
	for _, key := range path {
		if template = value(template, key); template == nil {
			return nil, fmt.Errorf("%s has no %s", name, strings.Join(path, "."))
		}
	}
	pod, err := podOf(template)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	result, err := with.Pod(pod)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := apply(template, result.Patch); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return []Verdict{{Object: name, Result: result}}, nil
}

// list does so for every object of a List.
func list(items *yaml.Node, with *inject.Injector) ([]Verdict, error) {
	if len(items.Content) > maxObjects {
		return nil, fmt.Errorf("is a list of more than %d objects: split it", maxObjects)
	}
	var all []Verdict
	var faults []error
	for _, item := range items.Content {
		v, err := object(item, with, true)
		if err != nil {
			faults = append(faults, err)
		}
		all = append(all, v...)
	}
	return all, errors.Join(faults...)
}

// podOf reads a pod or a template: what of it is needed has the same place in both.
func podOf(n *yaml.Node) (*corev1.Pod, error) {
	var plain map[string]any
	if err := n.Decode(&plain); err != nil {
		return nil, fmt.Errorf("is not the YAML of a pod: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	raw, err := json.Marshal(plain)
	if err != nil {
		return nil, fmt.Errorf("cannot be JSON: %w", err)
	}
	return inject.ParsePod(raw)
}

func named(n *yaml.Node) string {
	metadata := value(n, "metadata")
	if metadata == nil {
		return "without a name"
	}
	name := cmp.Or(text(metadata, "name"), text(metadata, "generateName"), "without a name")
	if namespace := text(metadata, "namespace"); namespace != "" {
		return namespace + "/" + name
	}
	return name
}

// String says it to an operator.
func (v Verdict) String() string {
	switch {
	case v.Skipped != "":
		return "not injected: " + v.Skipped
	case len(v.Patch) == 0:
		return "has a sidecar already"
	}
	return "injected"
}
