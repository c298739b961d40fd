package policy

import (
	"bytes"
	"slices"
)

// Head is what rules may ask of a request.
type Head struct {
	Method []byte
	// Path is that of the target, without its query, in the form that [AppendPath]
	// gives; another form cannot be judged. Empty for a target without a path (CONNECT,
	// OPTIONS *), which no rule with paths matches.
	Path []byte
	// Fields are the header fields; nil: none.
	Fields Fields
}

// Fields looks header fields up.
type Fields interface {
	// Value returns the nth value, from 0, of the field called name, which is in lower
	// case; false: there are not so many.
	Value(name string, n int) ([]byte, bool)
}

// Cause is why a decision fell as it did.
type Cause uint8

// The causes.
const (
	NotWorkload  Cause = iota // the caller is a gateway or an authority
	NotExported               // the caller is of another cluster, and the port is not exported
	ByDeny                    // a deny rule matches: Rule
	ByAllow                   // an allow rule matches: Rule
	NoAllow                   // there are allow policies, and no rule of them matches
	ByDefault                 // the strict default says so
	NeedsRequest              // what the request asks for decides
	Causes                    // how many there are
)

var causeNames = [Causes]string{"not_workload", "not_exported", "deny_rule", "allow_rule", "no_allow_rule", "default", "needs_request"}

// String names c for logs and metrics.
func (c Cause) String() string { return causeNames[c] }

// Verdict is what is decided and by what.
type Verdict struct {
	Allowed bool // false with NeedsRequest
	Cause   Cause
	// Rule is the rule that decided; nil with another cause than ByDeny and ByAllow.
	Rule *Ref
	// Unjudged says that Rule denies because a condition of it cannot be judged.
	Unjudged bool
}

// Ref names a rule.
type Ref struct {
	Policy *Policy
	Index  int // in Policy.Rules
	text   string
}

// String names the rule as its operator knows it: "AuthorizationPolicy shop/a rules[0]".
func (r *Ref) String() string { return r.text }

// Decision is what becomes of a call.
type Decision struct {
	Verdict
	// DryRun is what it would be if the policies that only try decided as well. It is
	// the same as Verdict where there are none.
	DryRun Verdict
}

// WouldDiffer reports whether the policies that only try would turn the decision.
func (d *Decision) WouldDiffer() bool { return d.DryRun.Allowed != d.Allowed }

// Connection decides about a connection to a port of the service whose requests will
// be seen: when it NeedsRequest each of them is to be decided by [Authorizer.Request],
// otherwise the decision is that of all of them.
func (a *Authorizer) Connection(c *Caller, port uint16) Decision {
	return a.decide(&question{caller: c, port: port, later: true})
}

// Opaque decides about a connection whose requests nobody sees: rules about requests
// do not allow, and deny.
func (a *Authorizer) Opaque(c *Caller, port uint16) Decision {
	return a.decide(&question{caller: c, port: port})
}

// Plain is Opaque at a gateway that ends the TLS of endpoints without an identity, which
// gateways call for who has no sidecar: those that an allow rule names and, with
// entrance, all where the service has no policy.
func (a *Authorizer) Plain(c *Caller, port uint16, entrance bool) Decision {
	return a.decide(&question{caller: c, port: port, plain: true, entrance: entrance})
}

// Request decides about one request. It keeps nothing of h.
func (a *Authorizer) Request(c *Caller, port uint16, h *Head) Decision {
	return a.decide(&question{caller: c, port: port, head: h})
}

// NeedsRequest reports whether the decision of a connection depends on its requests,
// that of the dry run included.
func (d *Decision) NeedsRequest() bool {
	return d.Cause == NeedsRequest || d.DryRun.Cause == NeedsRequest
}

// question is what is to be decided.
type question struct {
	caller *Caller
	port   uint16
	head   *Head // nil: not seen
	later  bool  // the head is yet to come
	plain  bool  // gateways may call
	// entrance: they may without a policy.
	entrance bool
}

func (a *Authorizer) decide(q *question) Decision {
	v := a.verdict(q, false)
	d := Decision{v, v}
	if a.tries {
		d.DryRun = a.verdict(q, true)
	}
	return d
}

// verdict is the decision by the policies in force, and by those that only try too
// with tries.
func (a *Authorizer) verdict(q *question, tries bool) Verdict {
	switch {
	case q.caller.Anonymous: // of no cluster
	case !(q.caller.IsWorkload() && q.caller.Namespace != "" || q.caller.IsGateway() && q.plain):
		return Verdict{Cause: NotWorkload}
	case (q.caller.Cluster != a.cluster || q.caller.TrustDomain != a.trustDomain) && !slices.Contains(a.exported, q.port):
		return Verdict{Cause: NotExported}
	}
	depends := false // on the request that is to come
	for i := range a.deny {
		r := &a.deny[i]
		if r.dryRun && !tries {
			continue
		}
		switch m := r.match(q); {
		case m == matches, m == unjudged && !q.later:
			return Verdict{Cause: ByDeny, Rule: &r.ref, Unjudged: m == unjudged}
		case m == unjudged:
			depends = true
		}
	}
	v := Verdict{Cause: NoAllow}
	if a.allowPolicies == 0 && !(tries && a.allowTries > 0) {
		v = Verdict{Cause: ByDefault, Allowed: a.strict.matches(q.caller) || q.entrance && q.caller.IsGateway() && a.hasNone(tries)}
	}
	may := false // the request that is to come may be allowed
	for i := range a.allow {
		r := &a.allow[i]
		if r.dryRun && !tries {
			continue
		}
		m := r.match(q)
		if m == matches {
			v = Verdict{Cause: ByAllow, Rule: &r.ref, Allowed: true}
			break
		}
		may = may || m == unjudged && q.later
	}
	if v.Allowed && depends || !v.Allowed && may {
		return Verdict{Cause: NeedsRequest}
	}
	return v
}

// hasNone reports whether the service has no policy in force, or with tries none at all.
func (a *Authorizer) hasNone(tries bool) bool {
	return !slices.ContainsFunc(a.set.Policies, func(p Policy) bool { return tries || !p.DryRun })
}

// match is how a rule is met.
type match uint8

const (
	differs match = iota
	matches
	unjudged // a condition cannot be judged, and the others match
)

func (r *rule) match(q *question) match {
	if !r.from(q.caller) || len(r.ports) > 0 && !slices.Contains(r.ports, q.port) {
		return differs
	}
	if !r.l7 {
		return matches
	}
	if q.head == nil {
		return unjudged
	}
	if !r.methodMatches(q.head.Method) || !r.headersMatch(q.head.Fields) {
		return differs
	}
	return r.pathMatches(q.head.Path)
}

func (r *rule) from(c *Caller) bool {
	for i := range r.callers {
		if r.callers[i].matches(c) {
			return true
		}
	}
	return r.everybody
}

func (r *rule) methodMatches(method []byte) bool {
	for _, m := range r.methods {
		if equal(method, m, r.wide) {
			return true
		}
	}
	return len(r.methods) == 0
}

func (r *rule) pathMatches(path []byte) match {
	switch {
	case len(r.paths) == 0:
		return matches
	case len(path) == 0:
		return differs
	case !isNormal(path):
		return unjudged
	}
	for i := range r.paths {
		if r.paths[i].matches(path, r.wide) {
			return matches
		}
	}
	return differs
}

func (r *rule) headersMatch(fields Fields) bool {
	for i := range r.headers {
		if fields == nil || !r.headers[i].matches(fields, r.wide) {
			return false
		}
	}
	return true
}

// matches reports whether every value of the field is one of the rule's; or, for a rule
// that reads widely, any part of any of them.
func (h *header) matches(fields Fields, wide bool) bool {
	return h.matchesNamed(h.name, fields, wide) || wide && h.alias != "" && h.matchesNamed(h.alias, fields, wide)
}

func (h *header) matchesNamed(name string, fields Fields, wide bool) bool {
	for n := 0; ; n++ {
		v, ok := fields.Value(name, n)
		if !ok {
			return n > 0 && !wide
		}
		switch {
		case len(h.values) == 0:
			return true
		case !wide && !h.isOneOf(v, false):
			return false
		case wide && h.anyPart(v):
			return true
		}
	}
}

// anyPart reports whether v, or an element of the list that it is, is one of the rule's
// values.
func (h *header) anyPart(v []byte) bool {
	if h.isOneOf(v, true) {
		return true
	}
	for len(v) > 0 {
		part, rest, _ := bytes.Cut(v, comma)
		if h.isOneOf(bytes.TrimSpace(part), true) {
			return true
		}
		v = rest
	}
	return false
}

func (h *header) isOneOf(v []byte, fold bool) bool {
	for i := range h.values {
		w := &h.values[i]
		if w.prefix && len(v) >= len(w.text) && equal(v[:len(w.text)], w.text, fold) || equal(v, w.text, fold) {
			return true
		}
	}
	return false
}
