package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var comma = []byte{','}

// Authorizer decides about the calls of one service. It is immutable: many goroutines
// may ask it at a time.
type Authorizer struct {
	set         *Set
	trustDomain string
	cluster     mesh.ClusterName

	exported []uint16
	strict   pattern // the default
	deny     []rule
	allow    []rule

	allowPolicies int  // that are in force; 0: the default is
	allowTries    int  // that only try
	tries         bool // there is a policy that only tries
}

// rule is a Rule that is ready to be asked.
type rule struct {
	ref       Ref
	dryRun    bool
	wide      bool // it denies
	l7        bool
	everybody bool // it is about all callers
	callers   []pattern
	ports     []uint16
	methods   []string
	paths     []pathRule
	headers   []header
}

type header struct {
	name   string
	alias  string // with "_" for "-", which many programs take for the same; empty: the same
	values []value
}

type value struct {
	text   string
	prefix bool
}

// Compile makes an Authorizer for a service as a cluster of a trust domain has it. The
// error is that of [Set.Check]. It keeps s, which must not change.
func Compile(s *Set, trustDomain string, cluster mesh.ClusterName) (*Authorizer, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	a := &Authorizer{set: s, trustDomain: trustDomain, cluster: cluster, exported: s.Exported}
	a.strict = Callers{}.compile(Allow, trustDomain, cluster, s.Service.Namespace)
	for i := range s.Policies {
		p := &s.Policies[i]
		a.tries = a.tries || p.DryRun
		to := &a.deny
		if p.Action == Allow {
			to = &a.allow
			if p.DryRun {
				a.allowTries++
			} else {
				a.allowPolicies++
			}
		}
		for n := range p.Rules {
			*to = append(*to, compileRule(p, n, trustDomain, cluster))
		}
	}
	return a, nil
}

func compileRule(p *Policy, n int, trustDomain string, cluster mesh.ClusterName) rule {
	from := &p.Rules[n]
	r := rule{
		ref:    Ref{Policy: p, Index: n, text: fmt.Sprintf("%s rules[%d]", p, n)},
		dryRun: p.DryRun, wide: p.Action == Deny, l7: from.L7(), everybody: len(from.From) == 0 && p.Action == Deny,
		ports: from.Ports, methods: from.Methods,
	}
	if p.Name == "" {
		r.ref.text = fmt.Sprintf("Service %s/%s allow[%d]", p.Namespace, strings.Join(p.Services, ","), n)
	}
	for _, c := range from.From {
		r.callers = append(r.callers, c.compile(p.Action, trustDomain, cluster, p.Namespace))
	}
	for _, s := range from.Paths {
		r.paths = append(r.paths, compilePath(s))
	}
	for _, h := range from.Headers {
		c := header{name: h.Name}
		if alias := strings.ReplaceAll(h.Name, "-", "_"); alias != h.Name {
			c.alias = alias
		}
		for _, v := range h.Values {
			text, prefix := strings.CutSuffix(v, Any)
			c.values = append(c.values, value{text, prefix})
		}
		r.headers = append(r.headers, c)
	}
	return r
}

// Set returns what a was made of. It must not be changed.
func (a *Authorizer) Set() *Set { return a.set }

// AsksForPaths reports whether a rule is about paths, so that requests should be given
// to the program in the form in which they are judged.
func (a *Authorizer) AsksForPaths() bool {
	about := func(r rule) bool { return len(r.paths) > 0 }
	return slices.ContainsFunc(a.deny, about) || slices.ContainsFunc(a.allow, about)
}
