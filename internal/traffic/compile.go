package traffic

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Rule is a rule, ready to be applied. It never changes.
type Rule struct {
	*mesh.Rule
	match    match
	backends []Backend // with a weight
	total    uint64    // of their weights
	prefix   int       // length of the path's prefix that is replaced, without a slash at its end
}

// Backend is one of those who may answer, and what is changed of heads on the way there and
// back.
type Backend struct {
	Destination       mesh.Destination // zero: it is not there
	Request, Response *mesh.Fields     // nil: nothing

	weight uint64
}

// Compile makes rules ready. The error says what [Check] would; rules may come from anywhere.
func Compile(rules []mesh.Rule) (*Rules, error) {
	if len(rules) > MaxRules {
		return nil, fmt.Errorf("%d rules, at most %d", len(rules), MaxRules)
	}
	out := &Rules{rules: make([]Rule, len(rules))}
	for i := range rules {
		if err := Check(&rules[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", rules[i].Name, err)
		}
		out.rules[i] = compile(&rules[i])
	}
	return out, nil
}

func compile(r *mesh.Rule) Rule {
	out := Rule{Rule: r, match: match{grpc: r.Match.GRPC, method: r.Match.Method, path: compileValue(r.Match.Path.Kind, r.Match.Path.Value)}}
	if r.Match.Path.Kind == mesh.Prefix {
		out.match.path.text = strings.TrimRight(r.Match.Path.Value, "/")
		out.prefix = len(out.match.path.text)
	}
	out.match.headers, out.match.query = compileValues(r.Match.Headers), compileValues(r.Match.Query)
	for i := range r.Action.Backends {
		b := &r.Action.Backends[i]
		if b.Weight == 0 {
			continue
		}
		out.total += uint64(b.Weight)
		out.backends = append(out.backends, Backend{
			Destination: b.Destination, weight: uint64(b.Weight),
			Request: joinFields(&r.Action.Request, &b.Request), Response: joinFields(&r.Action.Response, &b.Response),
		})
	}
	return out
}

func compileValues(from []mesh.ValueMatch) (all []namedValue) {
	for _, v := range from {
		all = append(all, namedValue{v.Name, compileValue(v.Kind, v.Value)})
	}
	return all
}

// compileValue compiles what was checked.
func compileValue(kind mesh.MatchKind, text string) value {
	v := value{kind: kind, text: text}
	if kind == mesh.Regex {
		v.regex = regexp.MustCompile(whole(text))
	}
	return v
}

// whole is an expression for all of a text.
func whole(regex string) string { return `^(?:` + regex + `)$` }

// joinFields returns what first and then second does; nil: nothing.
func joinFields(first, second *mesh.Fields) *mesh.Fields {
	switch {
	case first.IsZero() && second.IsZero():
		return nil
	case first.IsZero():
		return second
	case second.IsZero():
		return first
	}
	replaced := func(f mesh.Field) bool {
		return slices.Contains(second.Remove, f.Name) || slices.ContainsFunc(second.Set, func(o mesh.Field) bool { return o.Name == f.Name })
	}
	return &mesh.Fields{
		Set:    append(slices.DeleteFunc(slices.Clone(first.Set), replaced), second.Set...),
		Add:    append(slices.DeleteFunc(slices.Clone(first.Add), replaced), second.Add...),
		Remove: append(slices.Clone(first.Remove), second.Remove...),
	}
}

// Pick chooses a backend by weight; nil: there is none. Random is uniform in 0 to 1<<32 - 1.
func (r *Rule) Pick(random uint32) *Backend {
	if r.total == 0 {
		return nil
	}
	at := uint64(random) * r.total >> 32
	for i := range r.backends {
		if b := &r.backends[i]; at < b.weight {
			return b
		} else {
			at -= b.weight
		}
	}
	return nil // not reached: at is less than the sum
}

// AppendPath appends the path that w makes of one that the rule matches.
func (r *Rule) AppendPath(dst []byte, w *mesh.PathRewrite, path []byte) []byte {
	if w.Kind == mesh.ReplaceFull {
		return append(dst, w.Value...)
	}
	from := len(dst)
	dst = append(append(dst, strings.TrimRight(w.Value, "/")...), path[min(r.prefix, len(path)):]...)
	if len(dst) == from {
		return append(dst, '/')
	}
	return dst
}
