package manifest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	yaml "go.yaml.in/yaml/v3"

	"github.com/isthmus-mesh/isthmus/internal/inject"
)

// value returns the value of a key; nil: there is none.
func value(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func text(n *yaml.Node, key string) string {
	if v := value(n, key); v != nil && v.Kind == yaml.ScalarNode {
		return v.Value
	}
	return ""
}

func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// copyOf copies a tree, with what its aliases stand for in their place: what is changed in one
// place may not be changed in another.
func copyOf(n *yaml.Node) *yaml.Node {
	n = resolve(n)
	c := *n
	c.Anchor = ""
	if c.Tag == "!!merge" { // the encoder would write the tag
		c.Tag = ""
	}
	c.Content = nil
	for _, child := range n.Content {
		c.Content = append(c.Content, copyOf(child))
	}
	return &c
}

// apply changes a pod's tree, in which nothing is an alias, as a patch says.
func apply(pod *yaml.Node, patch []inject.Operation) error {
	for _, o := range patch {
		parent := pod
		for _, key := range o.Path[:len(o.Path)-1] {
			next := value(parent, key)
			if at, err := strconv.Atoi(key); err == nil && parent.Kind == yaml.SequenceNode && at < len(parent.Content) {
				next = parent.Content[at]
			}
			if key == "metadata" && (next == nil || next.Kind == yaml.ScalarNode) { // absent, or null
				next = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Style: parent.Style}
				setKey(parent, key, next)
			}
			if next == nil {
				return fmt.Errorf("has its %s by a merge key (<<): write it out", key)
			}
			parent = next
		}
		last := o.Path[len(o.Path)-1]
		if o.Op == inject.Remove {
			removeKey(parent, last)
			continue
		}
		n, err := nodeOf(o.Value, parent.Style)
		if err != nil {
			return err
		}
		switch {
		case parent.Kind == yaml.MappingNode:
			setKey(parent, last, n)
		case last == "-":
			parent.Content = append(parent.Content, n)
		default:
			at, err := strconv.Atoi(last)
			if err != nil || at > len(parent.Content) {
				return fmt.Errorf("patch %v: there is no such place", o.Path)
			}
			parent.Content = slices.Insert(parent.Content, at, n)
		}
	}
	return nil
}

// setKey sets a key of a mapping, at its end when it is new.
func setKey(n *yaml.Node, key string, v *yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content[i+1] = v
			return
		}
	}
	k := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}
	if n.Style&yaml.FlowStyle != 0 { // it may be JSON
		k.Style = yaml.DoubleQuotedStyle
	}
	n.Content = append(n.Content, k, v)
}

func removeKey(n *yaml.Node, key string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content = slices.Delete(n.Content, i, i+2)
			return
		}
	}
}

// nodeOf returns a value as YAML, in the style of what it goes into.
func nodeOf(value any, style yaml.Style) (*yaml.Node, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil { // JSON is YAML
		return nil, err
	}
	n := doc.Content[0]
	if style&yaml.FlowStyle == 0 {
		block(n)
	}
	return n, nil
}

// block gives a tree that was JSON the style in which people write YAML: quotes where
// a text would be something else without them.
func block(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		n.Style = 0 // the encoder sets quotes where the text needs them
	}
	for _, c := range n.Content {
		block(c)
	}
}
