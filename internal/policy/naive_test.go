package policy

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// naive decides by the letter of the package comment, slowly. It returns "allow",
// "deny", or "?" when what the request asks for decides.
func naive(s *Set, td, cluster string, c *Caller, port uint16, h *Head, later, tries bool) string {
	if c.IsGateway() {
		return "deny"
	}
	if !c.Anonymous && !slices.Contains(s.Exported, port) && string(c.Cluster)+" "+c.TrustDomain != cluster+" "+td {
		return "deny"
	}
	denied, mayDeny, allowed, mayAllow, anyAllow := false, false, false, false, false
	for _, p := range s.Policies {
		if p.DryRun && !tries {
			continue
		}
		anyAllow = anyAllow || p.Action == Allow
		for _, r := range p.Rules {
			yes, unjudged := naiveRule(&p, &r, td, c, port, h)
			unjudged = unjudged && yes
			switch {
			case p.Action == Deny && yes && !(unjudged && later):
				denied = true
			case p.Action == Deny && yes:
				mayDeny = true
			case yes && !unjudged:
				allowed = true
			case yes && later:
				mayAllow = true
			}
		}
	}
	if !anyAllow {
		allowed = !c.Anonymous && c.TrustDomain == td && c.Namespace == s.Service.Namespace && (!c.Unvouched || string(c.Cluster) == cluster)
	}
	switch {
	case denied, !allowed && !mayAllow:
		return "deny"
	case allowed && !mayDeny:
		return "allow"
	}
	return "?"
}

// naiveRule reports whether a rule matches, and whether that is because something of it
// cannot be judged.
func naiveRule(p *Policy, r *Rule, td string, c *Caller, port uint16, h *Head) (yes, unjudged bool) {
	deny := p.Action == Deny
	from := deny && len(r.From) == 0
	for _, f := range r.From {
		or := func(s, left string) string {
			if s == "" {
				return left
			}
			return s
		}
		ok := true
		for _, seg := range [][3]string{
			{f.TrustDomain, td, c.TrustDomain}, {f.Cluster, "*", string(c.Cluster)}, {f.Namespace, p.Namespace, c.Namespace}, {f.ServiceAccount, "*", c.ServiceAccount},
		} {
			want := or(seg[0], seg[1])
			if deny {
				want = or(seg[0], "*")
			}
			ok = ok && (want == "*" || want == seg[2])
		}
		if !deny && f.Cluster == "" && c.Unvouched && string(c.Cluster) != "east" {
			ok = false
		}
		if c.Anonymous || f.Anonymous {
			all := func(s string) bool { return s == "*" || s == "" }
			ok = c.Anonymous && (f.Anonymous || deny && all(f.TrustDomain) && all(f.Cluster) && all(f.Namespace) && all(f.ServiceAccount))
		}
		from = from || ok
	}
	if !from || len(r.Ports) > 0 && !slices.Contains(r.Ports, port) {
		return false, false
	}
	if len(r.Methods)+len(r.Paths)+len(r.Headers) == 0 {
		return true, false
	}
	if h == nil {
		return true, true
	}
	same := func(a, b string) bool { return a == b || deny && strings.EqualFold(a, b) }
	if len(r.Methods) > 0 && !slices.ContainsFunc(r.Methods, func(m string) bool { return same(m, string(h.Method)) }) {
		return false, false
	}
	one := func(v string, of []string) bool {
		return slices.ContainsFunc(of, func(w string) bool {
			if prefix, ok := strings.CutSuffix(w, "*"); ok && len(v) >= len(prefix) && same(v[:len(prefix)], prefix) {
				return true
			}
			return same(v, strings.TrimSuffix(w, "*"))
		})
	}
	for _, want := range r.Headers {
		values := h.Fields.(fields)[want.Name]
		switch {
		case len(values) == 0:
			return false, false
		case len(want.Values) == 0:
		case deny && !slices.ContainsFunc(values, func(v string) bool {
			return one(v, want.Values) || slices.ContainsFunc(strings.Split(v, ","), func(e string) bool { return one(strings.TrimSpace(e), want.Values) })
		}):
			return false, false
		case !deny && slices.ContainsFunc(values, func(v string) bool { return !one(v, want.Values) }):
			return false, false
		}
	}
	if len(r.Paths) == 0 {
		return true, false
	}
	if len(h.Path) == 0 {
		return false, false
	}
	if normal, err := AppendPath(nil, h.Path); err != nil || string(normal) != string(h.Path) {
		return true, true
	}
	at := strings.TrimSuffix(string(h.Path), "/")
	return slices.ContainsFunc(r.Paths, func(w string) bool {
		prefix, below := strings.CutSuffix(w, "/*")
		if !below {
			return same(at, strings.TrimSuffix(w, "/"))
		}
		return same(at, prefix) || len(at) > len(prefix) && same(at[:len(prefix)+1], prefix+"/")
	}), false
}

// fields are header fields for tests.
type fields map[string][]string

func (f fields) Value(name string, n int) ([]byte, bool) {
	if n >= len(f[name]) {
		return nil, false
	}
	return []byte(f[name][n]), true
}

func TestADecisionIsWhatANaiveEvaluatorSays(t *testing.T) {
	segment := func(values ...string) *rapid.Generator[string] { return rapid.SampledFrom(append(values, "", "*")) }
	callers := rapid.Custom(func(t *rapid.T) Callers {
		if rapid.IntRange(0, 5).Draw(t, "anonymous") == 0 {
			return Callers{Anonymous: true}
		}
		return Callers{
			TrustDomain: segment("a.example", "b.example").Draw(t, "td"), Cluster: segment("east", "west").Draw(t, "cluster"),
			Namespace: segment("shop", "front").Draw(t, "ns"), ServiceAccount: segment("web", "cart").Draw(t, "sa"),
		}
	})
	few := func(of ...string) *rapid.Generator[[]string] {
		return rapid.SliceOfN(rapid.SampledFrom(of), 0, 2)
	}
	header := rapid.Custom(func(t *rapid.T) Header {
		return Header{Name: rapid.SampledFrom([]string{"x-a", "x-b"}).Draw(t, "name"), Values: few("one", "t*", "*", "").Draw(t, "values")}
	})
	rule := rapid.Custom(func(t *rapid.T) Rule {
		r := Rule{
			From:    rapid.SliceOfN(callers, 0, 2).Draw(t, "from"),
			Ports:   rapid.SliceOfN(rapid.SampledFrom([]uint16{80, 443}), 0, 2).Draw(t, "ports"),
			Methods: few("GET", "POST").Draw(t, "methods"),
			Paths:   few("/", "/*", "/a", "/a/*", "/a/b", "/a/").Draw(t, "paths"),
		}
		if rapid.Bool().Draw(t, "has headers") {
			r.Headers = rapid.SliceOfN(header, 0, 2).Draw(t, "headers")
		}
		return r
	})
	pol := rapid.Custom(func(t *rapid.T) Policy {
		p := Policy{Namespace: "shop", Name: "p", Action: rapid.SampledFrom([]Action{Allow, Deny}).Draw(t, "action"),
			DryRun: rapid.Bool().Draw(t, "dry run"), Rules: rapid.SliceOfN(rule, 0, 3).Draw(t, "rules")}
		for i := range p.Rules {
			if p.Action == Allow && len(p.Rules[i].From) == 0 {
				p.Rules[i].From = []Callers{{}}
			}
		}
		return p
	})
	rapid.Check(t, func(t *rapid.T) {
		s := &Set{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Exported: rapid.SampledFrom([][]uint16{nil, {80}, {81}, {80, 81}}).Draw(t, "exported"),
			Policies: rapid.SliceOfN(pol, 0, 3).Draw(t, "policies")}
		a, err := Compile(s, "a.example", "east")
		if err != nil {
			t.Fatal(err)
		}
		c := &Caller{ID: identity.ID{TrustDomain: rapid.SampledFrom([]string{"a.example", "b.example"}).Draw(t, "td"),
			Cluster: rapid.SampledFrom([]mesh.ClusterName{"east", "west"}).Draw(t, "cluster")}, Unvouched: rapid.Bool().Draw(t, "unvouched")}
		switch rapid.IntRange(0, 9).Draw(t, "who") {
		case 0:
			c.Gateway = "east-1"
		case 1:
			c = &Caller{Anonymous: true}
		default:
			c.Namespace = rapid.SampledFrom([]string{"shop", "front", "zoo"}).Draw(t, "ns")
			c.ServiceAccount = rapid.SampledFrom([]string{"web", "cart"}).Draw(t, "sa")
		}
		port := rapid.SampledFrom([]uint16{80, 81}).Draw(t, "port")
		h := &Head{
			Method: []byte(rapid.SampledFrom([]string{"GET", "get", "POST", "PUT", "CONNECT"}).Draw(t, "method")),
			Path:   []byte(rapid.SampledFrom([]string{"/", "/a", "/A", "/a/", "/a/b", "/ab", "/a//b", "/a%2fb", "", "/a/b/c"}).Draw(t, "path")),
			Fields: fields{"x-a": few("one", "two", "One", "x, two", "").Draw(t, "x-a"), "x-b": few("one", "three").Draw(t, "x-b")},
		}
		for what, ask := range map[string]func() (Decision, string, string){
			"request": func() (Decision, string, string) {
				return a.Request(c, port, h), naive(s, "a.example", "east", c, port, h, false, false), naive(s, "a.example", "east", c, port, h, false, true)
			},
			"opaque": func() (Decision, string, string) {
				return a.Opaque(c, port), naive(s, "a.example", "east", c, port, nil, false, false), naive(s, "a.example", "east", c, port, nil, false, true)
			},
			"connection": func() (Decision, string, string) {
				return a.Connection(c, port), naive(s, "a.example", "east", c, port, nil, true, false), naive(s, "a.example", "east", c, port, nil, true, true)
			},
		} {
			d, want, wantDry := ask()
			if got := word(&d.Verdict); got != want {
				t.Fatalf("%s: %s, the naive evaluator says %s\n%+v", what, got, want, d)
			}
			if got := word(&d.DryRun); got != wantDry {
				t.Fatalf("dry run of %s: %s, the naive evaluator says %s\n%+v", what, got, wantDry, d)
			}
			if (d.Cause == ByAllow || d.Cause == ByDeny) != (d.Rule != nil) || a.Explain(d.Verdict, c) == "" {
				t.Fatalf("%s names no rule: %+v", what, d)
			}
		}
		// What a connection decides, each of its requests decides too.
		if conn, req := a.Connection(c, port), a.Request(c, port, h); conn.Cause != NeedsRequest && conn.Allowed != req.Allowed {
			t.Fatalf("connection %+v, request %+v", conn, req)
		}
		if a.Opaque(c, port).Allowed && !a.Request(c, port, h).Allowed {
			t.Fatal("allowed unseen, and refused when seen")
		}
	})
}

func word(v *Verdict) string {
	switch {
	case v.Cause == NeedsRequest:
		return "?"
	case v.Allowed:
		return "allow"
	}
	return "deny"
}
