package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

// Document is one parsed YAML document. It is not safe for concurrent use.
type Document struct {
	source string
	root   *yaml.Node            // a mapping
	origin map[*yaml.Node]string // nodes that Set made, and where they are from
	at     map[string]*yaml.Node // the node that stands for a key path, filled by Decode
}

// Read reads the documents of a file, see [Parse]. It reads no more than
// [MaxBytes].
func Read(path string) ([]*Document, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, Faults{{Source: path, Problem: openProblem(err)}}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, Faults{{Source: path, Problem: fmt.Sprintf("cannot be read: %v", cause(err))}}
	}
	return Parse(path, data)
}

func openProblem(err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "there is no such file: check the path"
	case errors.Is(err, os.ErrPermission):
		return "may not be read: check its owner and mode"
	}
	return fmt.Sprintf("cannot be opened: %v", cause(err))
}

// cause strips the path that os's errors repeat.
func cause(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	return err
}

// Parse splits data into its YAML documents. Empty documents are left out, so
// the result may be empty. The source names data in faults.
func Parse(source string, data []byte) ([]*Document, error) {
	if len(data) > MaxBytes {
		return nil, Faults{{Source: source, Problem: fmt.Sprintf("is larger than %d MiB: split it", MaxBytes>>20)}}
	}
	var docs []*Document
	var faults Faults
	for d := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var n yaml.Node
		err := d.Decode(&n)
		if errors.Is(err, io.EOF) {
			return docs, faults.Err()
		}
		if err != nil {
			return nil, append(faults, syntaxFault(source, err))
		}
		if len(n.Content) == 0 || isNull(n.Content[0]) {
			continue
		}
		root := n.Content[0]
		if root.Kind != yaml.MappingNode {
			faults = append(faults, Fault{source, root.Line, "", fmt.Sprintf("is %s: write a mapping, key: value", describe(root))})
			continue
		}
		docs = append(docs, &Document{source: source, root: root})
	}
}

// Empty returns a document without keys, to [Document.Set] values in.
func Empty(source string) *Document {
	return &Document{source: source, root: &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}}
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntaxFault reads the line out of an error of the yaml package. That counts
// lines from 0 in its parser's errors, from 1 in its scanner's, and says
// nothing instead of 0.
func syntaxFault(source string, err error) Fault {
	f := Fault{Source: source, Line: 1, Problem: err.Error()}
	if m := yamlError.FindStringSubmatch(f.Problem); m != nil {
		f.Problem = f.Problem[len(m[0]):]
		if n, err := strconv.Atoi(m[1]); err == nil {
			f.Line = n
			if strings.HasPrefix(f.Problem, "did not find expected") {
				f.Line++
			}
		}
	}
	f.Problem = "is not YAML: " + strings.ReplaceAll(f.Problem, "\n", " ")
	if strings.Contains(f.Problem, "character that cannot start any token") {
		f.Problem += " (indent with spaces, not with tabs; quote values that begin with @ or `)"
	}
	return f
}

// Line returns the line that the document begins at; 0 when it has none.
func (d *Document) Line() int { return d.root.Line }

// Keys returns the top-level keys in order.
func (d *Document) Keys() []string {
	var keys []string
	for i := 0; i+1 < len(d.root.Content); i += 2 {
		keys = append(keys, d.root.Content[i].Value)
	}
	return keys
}

// Text returns the scalar at a path of keys, or "" when there is none: to look
// at what a document is before it is decoded.
func (d *Document) Text(path ...string) string {
	n := d.root
	for _, key := range path {
		n = resolve(child(n, key))
		if n == nil {
			return ""
		}
	}
	if n.Kind != yaml.ScalarNode || isNull(n) {
		return ""
	}
	return n.Value
}

// Set puts text at a path of keys as if the document had said it there; one
// text is a scalar, list makes it a list. Faults about it name origin, such as
// an environment variable, instead of the document's source and line.
func (d *Document) Set(origin string, list bool, path []string, text ...string) {
	if d.origin == nil {
		d.origin = map[*yaml.Node]string{}
	}
	n := d.root
	for _, key := range path[:len(path)-1] {
		next := child(n, key)
		if next != nil && next.Kind == yaml.AliasNode && next.Alias.Kind == yaml.MappingNode {
			own := *next.Alias // what is set here must not be set where the anchor is
			own.Content = slices.Clone(own.Content)
			next = d.put(n, key, &own, "")
		}
		if next == nil || next.Kind != yaml.MappingNode {
			next = d.put(n, key, &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: n.Line}, "")
		}
		n = next
	}
	last := path[len(path)-1]
	if !list {
		d.put(n, last, &yaml.Node{Kind: yaml.ScalarNode, Value: strings.Join(text, ",")}, origin)
		return
	}
	seq := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	for _, t := range text {
		e := &yaml.Node{Kind: yaml.ScalarNode, Value: t}
		d.origin[e] = origin
		seq.Content = append(seq.Content, e)
	}
	d.put(n, last, seq, origin)
}

// put replaces or adds a key of the mapping n and returns value.
func (d *Document) put(n *yaml.Node, key string, value *yaml.Node, origin string) *yaml.Node {
	if origin != "" {
		d.origin[value] = origin
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			value.Line = n.Content[i].Line
			n.Content[i+1] = value
			return value
		}
	}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key, Tag: "!!str", Line: value.Line}, value)
	return value
}

// Fault returns a fault at a key path, such as "upstreams[1].listen". When the
// document does not have that key, it is at the nearest one around it.
func (d *Document) Fault(key, format string, args ...any) Fault {
	f := Fault{Source: d.source, Line: d.root.Line, Key: key, Problem: fmt.Sprintf(format, args...)}
	for path := key; path != ""; path = parent(path) {
		if n, ok := d.at[path]; ok {
			d.locate(&f, n)
			break
		}
	}
	return f
}

// Has reports whether the decoded document gave a value other than null at the
// key path.
func (d *Document) Has(key string) bool {
	n, ok := d.at[key]
	return ok && !isNull(resolve(n))
}

// IsSet reports whether the value at the key path came by [Document.Set].
func (d *Document) IsSet(key string) bool {
	_, ok := d.origin[d.at[key]]
	return ok
}

func (d *Document) locate(f *Fault, n *yaml.Node) {
	if origin, ok := d.origin[n]; ok {
		f.Source, f.Line = origin, 0
		return
	}
	f.Line = n.Line
}

func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// child returns the value of a key of the mapping n, or nil.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// resolve follows an alias; yaml never makes an alias of an alias.
func resolve(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// describe names what a node is, for a person.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	if isNull(n) {
		return "empty"
	}
	return strconv.Quote(shorten(n.Value))
}

// shorten keeps foreign text in messages to a line's length.
func shorten(s string) string {
	const maxShown = 80 // bytes
	if len(s) <= maxShown {
		return s
	}
	return s[:maxShown] + "…"
}
