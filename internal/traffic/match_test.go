package traffic

import (
	"fmt"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// fields are header fields of a request by name.
type fields map[string][]string

func (f fields) Value(name string, n int) ([]byte, bool) {
	if n >= len(f[name]) {
		return nil, false
	}
	return []byte(f[name][n]), true
}

func head(method, target string, f fields) *Head {
	path, query, has := strings.Cut(target, "?")
	h := &Head{Method: []byte(method), Path: []byte(path), Fields: f}
	if has {
		h.Query = []byte(query)
	}
	return h
}

func path(kind mesh.MatchKind, value string) mesh.Match {
	return mesh.Match{Path: mesh.PathMatch{Kind: kind, Value: value}}
}

func TestARuleMatchesWhatItsConditionsSay(t *testing.T) {
	header := func(kind mesh.MatchKind, value string) mesh.Match {
		return mesh.Match{Headers: []mesh.ValueMatch{{Name: "x", Kind: kind, Value: value}}}
	}
	query := func(kind mesh.MatchKind, value string) mesh.Match {
		return mesh.Match{Query: []mesh.ValueMatch{{Name: "q r", Kind: kind, Value: value}}}
	}
	for _, c := range []struct {
		match mesh.Match
		yes   []*Head
		no    []*Head
	}{
		{mesh.Match{}, []*Head{head("GET", "/", nil), {Method: []byte("OPTIONS")}}, nil},
		{path(mesh.Exact, "/a"), []*Head{head("GET", "/a?b", nil)}, []*Head{head("GET", "/a/", nil), head("GET", "/", nil), {}}},
		{path(mesh.Prefix, "/"), []*Head{head("GET", "/a", nil), {Method: []byte("OPTIONS")}}, nil},
		{path(mesh.Prefix, "/a/b/"), []*Head{head("GET", "/a/b", nil), head("GET", "/a/b/", nil), head("GET", "/a/b/c", nil)}, []*Head{head("GET", "/a/bc", nil), head("GET", "/a", nil), {}}},
		{path(mesh.Regex, "/[0-9]+"), []*Head{head("GET", "/12", nil)}, []*Head{head("GET", "/12a", nil), head("GET", "/a/12", nil), head("GET", "/"+strings.Repeat("1", maxRegexInput), nil)}},
		{path(mesh.Regex, "/a|/b"), []*Head{head("GET", "/b", nil)}, []*Head{head("GET", "/ab", nil), head("GET", "/a/b", nil)}},
		{mesh.Match{Method: "POST"}, []*Head{head("POST", "/", nil)}, []*Head{head("GET", "/", nil), head("post", "/", nil)}},
		{mesh.Match{GRPC: true}, []*Head{{GRPC: true}}, []*Head{{}}},
		{header(mesh.Exact, "1"), []*Head{head("GET", "/", fields{"x": {"1"}})}, []*Head{head("GET", "/", nil), head("GET", "/", fields{"x": {"1", "1"}}), head("GET", "/", fields{"x": {"2"}})}},
		{header(mesh.Exact, "1,2,3"), []*Head{head("GET", "/", fields{"x": {"1", "2", "3"}})}, nil},
		{header(mesh.Exact, ""), []*Head{head("GET", "/", fields{"x": {""}})}, []*Head{head("GET", "/", nil)}},
		{header(mesh.Regex, "a.c"), []*Head{head("GET", "/", fields{"x": {"abc"}})}, []*Head{head("GET", "/", fields{"x": {"abcd"}})}},
		{query(mesh.Exact, "a&b"), []*Head{head("GET", "/?z=1&q+r=a%26b", nil), head("GET", "/?q%20r=a%26b&q%20r=c", nil)}, []*Head{head("GET", "/", nil), head("GET", "/?q%20r=c&q%20r=a%26b", nil), head("GET", "/?q r=a", nil)}},
		{query(mesh.Exact, "%zz"), []*Head{head("GET", "/?q+r=%zz", nil)}, nil},
		{query(mesh.Regex, "a +b"), []*Head{head("GET", "/?q+r=a+%20b", nil)}, []*Head{head("GET", "/?q+r=ab", nil)}},
	} {
		r, err := Compile([]mesh.Rule{{Name: "r", Match: c.match}})
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range c.yes {
			if r.Match(h) == nil {
				t.Errorf("%+v does not match %s %s?%s %v", c.match, h.Method, h.Path, h.Query, h.Fields)
			}
		}
		for _, h := range c.no {
			if r.Match(h) != nil {
				t.Errorf("%+v matches %s %s?%s %v", c.match, h.Method, h.Path, h.Query, h.Fields)
			}
		}
	}
}

func TestPathsAreReplacedAsTheSpecificationsTableSays(t *testing.T) {
	for _, c := range []struct{ prefix, by, path, want string }{
		{"/foo", "/xyz", "/foo/bar", "/xyz/bar"}, {"/foo", "/xyz/", "/foo/bar", "/xyz/bar"}, {"/foo/", "/xyz", "/foo/bar", "/xyz/bar"},
		{"/foo/", "/xyz/", "/foo/bar", "/xyz/bar"}, {"/foo", "/xyz", "/foo", "/xyz"}, {"/foo/", "/xyz", "/foo/", "/xyz/"},
		{"/foo", "", "/foo/bar", "/bar"}, {"/foo/", "", "/foo", "/"}, {"/foo", "/", "/foo/", "/"}, {"/foo", "/", "/foo", "/"}, {"/", "/a", "/b", "/a/b"},
	} {
		r, err := Compile([]mesh.Rule{{Match: path(mesh.Prefix, c.prefix)}})
		if err != nil {
			t.Fatal(err)
		}
		rule := r.Match(head("GET", c.path, nil))
		if got := string(rule.AppendPath(nil, &mesh.PathRewrite{Kind: mesh.ReplacePrefix, Value: c.by}, []byte(c.path))); got != c.want {
			t.Errorf("%s by %q: %s becomes %s, want %s", c.prefix, c.by, c.path, got, c.want)
		}
	}
}

func TestBackendsAreChosenInProportionToTheirWeights(t *testing.T) {
	b := func(name string, weight uint32) mesh.Backend {
		return mesh.Backend{Destination: mesh.Destination{Service: mesh.ServiceName{Name: name}, Port: 80}, Weight: weight}
	}
	r, err := Compile([]mesh.Rule{{Action: mesh.Action{Backends: []mesh.Backend{b("a", 1), b("none", 0), b("b", 3)}}}, {}})
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for i := range 4000 {
		count[r.rules[0].Pick(uint32(i)*(1<<32/4000)).Destination.Service.Name]++
	}
	if count["a"] < 999 || count["a"] > 1001 || count["b"] != 4000-count["a"] {
		t.Errorf("of 4000: %v", count)
	}
	if r.rules[0].Pick(1<<32-1) == nil || r.rules[1].Pick(0) != nil {
		t.Error("the greatest number picks nobody, or a rule without backends somebody")
	}
}

func TestWhatOfARuleCannotBeMeantIsRefused(t *testing.T) {
	for name, r := range map[string]mesh.Rule{
		"a path without a slash":       {Match: path(mesh.Prefix, "a")},
		"a path with a space":          {Match: path(mesh.Exact, "/a b")},
		"no expression":                {Match: path(mesh.Regex, "/(")},
		"an expression that explodes":  {Match: path(mesh.Regex, "/((a{50}){50}){50}")},
		"an unknown kind":              {Match: path("glob", "/*")},
		"a field of the framing":       {Action: mesh.Action{Request: mesh.Fields{Set: []mesh.Field{{Name: "content-length", Value: "1"}}}}},
		"a field that says who calls":  {Action: mesh.Action{Request: mesh.Fields{Set: []mesh.Field{{Name: "x-forwarded-client-cert", Value: "me"}}}}},
		"a field with a line end":      {Action: mesh.Action{Response: mesh.Fields{Add: []mesh.Field{{Name: "a", Value: "b\r\nc: d"}}}}},
		"a name in upper case":         {Action: mesh.Action{Response: mesh.Fields{Remove: []string{"A"}}}},
		"a host with a line end":       {Action: mesh.Action{Rewrite: mesh.Rewrite{Host: "a\r\nb"}}},
		"a path with a line end":       {Action: mesh.Action{Rewrite: mesh.Rewrite{Path: mesh.PathRewrite{Kind: mesh.ReplaceFull, Value: "/a\r\nb"}}}},
		"a prefix where none matches":  {Match: path(mesh.Exact, "/a"), Action: mesh.Action{Rewrite: mesh.Rewrite{Path: mesh.PathRewrite{Kind: mesh.ReplacePrefix, Value: "/b"}}}},
		"a redirect that is none":      {Action: mesh.Action{Redirect: &mesh.Redirect{Status: 200}}},
		"a weight beyond the greatest": {Action: mesh.Action{Backends: []mesh.Backend{{Weight: MaxWeight + 1}}}},
		"a backend's field":            {Action: mesh.Action{Backends: []mesh.Backend{{Weight: 1, Request: mesh.Fields{Remove: []string{"host"}}}}}},
	} {
		if _, err := Compile([]mesh.Rule{r}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := Compile(make([]mesh.Rule, MaxRules+1)); err == nil {
		t.Error("any number of rules is taken")
	}
}

func TestADecisionAllocatesNothing(t *testing.T) {
	var rules []mesh.Rule
	for i := range 50 {
		m := path(mesh.Prefix, fmt.Sprintf("/p%d", i))
		m.Headers, m.Query = []mesh.ValueMatch{{Name: "x", Kind: mesh.Regex, Value: "a+"}}, []mesh.ValueMatch{{Name: "q", Kind: mesh.Exact, Value: "1"}}
		rules = append(rules, mesh.Rule{Match: m, Action: mesh.Action{Backends: []mesh.Backend{{Weight: 1}, {Weight: 2}}}})
	}
	r, err := Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	h, f := head("GET", "/p49/x?a=b&q=1", nil), &fixed{[]byte("aaa")}
	h.Fields = f
	buf := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		rule := r.Match(h)
		if rule == nil || rule.Pick(77) == nil {
			t.Fatal("no match")
		}
		buf = rule.AppendPath(buf[:0], &mesh.PathRewrite{Kind: mesh.ReplacePrefix, Value: "/y"}, h.Path)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// fixed is one field value.
type fixed struct{ value []byte }

func (f *fixed) Value(_ string, n int) ([]byte, bool) { return f.value, n == 0 }
