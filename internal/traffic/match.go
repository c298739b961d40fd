package traffic

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Head is what rules ask of a request.
type Head struct {
	Method []byte
	Path   []byte // as it came; nil: it has none
	Query  []byte // behind the "?"; nil: none
	GRPC   bool
	Fields Fields
}

// Fields are the header fields of a request.
type Fields interface {
	// Value returns the nth value, from 0, of the field called name, which is in lower
	// case; false: there are not so many.
	Value(name string, n int) ([]byte, bool)
}

// Rules are the rules of one destination, ready to decide. They never change.
type Rules struct{ rules []Rule }

// Match returns the first rule that matches; nil: none does.
func (r *Rules) Match(h *Head) *Rule {
	for i := range r.rules {
		if r.rules[i].match.holds(h) {
			return &r.rules[i]
		}
	}
	return nil
}

// Len returns how many rules there are.
func (r *Rules) Len() int { return len(r.rules) }

// match is a compiled [mesh.Match].
type match struct {
	grpc    bool
	method  string
	path    value
	headers []namedValue
	query   []namedValue
}

type namedValue struct {
	name string
	value
}

// value is a compiled condition on a text.
type value struct {
	kind  mesh.MatchKind
	text  string
	regex *regexp.Regexp
}

func (m *match) holds(h *Head) bool {
	if m.grpc && !h.GRPC || m.method != "" && string(h.Method) != m.method || m.path.kind != "" && !m.path.holdsPath(h.Path) {
		return false
	}
	for i := range m.headers {
		if !m.headers[i].holdsField(h.Fields) {
			return false
		}
	}
	for i := range m.query {
		if !m.query[i].holdsParameter(h.Query) {
			return false
		}
	}
	return true
}

func (v *value) holdsPath(path []byte) bool {
	if v.kind != mesh.Prefix {
		return path != nil && v.holds(path)
	}
	if len(path) < len(v.text) || string(path[:len(v.text)]) != v.text {
		return false
	}
	rest := path[len(v.text):]
	return len(rest) == 0 || rest[0] == '/' // text has no slash at its end
}

func (v *value) holds(b []byte) bool {
	if v.kind == mesh.Regex {
		return len(b) <= maxRegexInput && v.regex.Match(b)
	}
	return string(b) == v.text
}

// holdsField compares with the values of a header field, which are one list when there are
// several (RFC 9110 §5.3).
func (v *namedValue) holdsField(fields Fields) bool {
	first, ok := fields.Value(v.name, 0)
	if !ok {
		return false
	}
	second, several := fields.Value(v.name, 1)
	if !several {
		return v.holds(first)
	}
	list := append(append(bytes.Clone(first), ','), second...)
	for n := 2; ; n++ {
		next, ok := fields.Value(v.name, n)
		if !ok {
			return v.holds(list)
		}
		list = append(append(list, ','), next...)
	}
}

// holdsParameter compares with the first parameter of that name, both unescaped.
func (v *namedValue) holdsParameter(query []byte) bool {
	for len(query) > 0 {
		var one []byte
		one, query, _ = bytes.Cut(query, []byte("&"))
		name, text, _ := bytes.Cut(one, []byte("="))
		if !unescapesTo(name, v.name) {
			continue
		}
		if v.kind != mesh.Regex {
			return unescapesTo(text, v.text)
		}
		return len(text) <= maxRegexInput && v.regex.Match(unescaped(text))
	}
	return false
}

// unescapesTo reports whether b is s in a query's escapes. A broken one stands for itself.
func unescapesTo(b []byte, s string) bool {
	for len(b) > 0 {
		c, n := character(b)
		if len(s) == 0 || s[0] != c {
			return false
		}
		b, s = b[n:], s[1:]
	}
	return len(s) == 0
}

func unescaped(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		c, n := character(b)
		out, b = append(out, c), b[n:]
	}
	return out
}

// character returns the first byte that a query's text stands for, and how long that is.
func character(b []byte) (c byte, n int) {
	switch {
	case b[0] == '+':
		return ' ', 1
	case b[0] == '%' && len(b) > 2:
		hi, lo := strings.IndexByte(digits, b[1]|0x20), strings.IndexByte(digits, b[2]|0x20)
		if hi >= 0 && lo >= 0 {
			return byte(hi<<4 | lo), 3
		}
	}
	return b[0], 1
}

// digits are those of escapes, in lower case. Setting the bit of lower case leaves '0' to '9'
// as they are.
const digits = "0123456789abcdef"
