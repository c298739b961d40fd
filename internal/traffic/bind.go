package traffic

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Attached are the rules of one destination.
type Attached struct {
	Rules       []mesh.Rule            // for everybody; nil: none
	ByNamespace map[string][]mesh.Rule // for callers of a namespace, in place of Rules
}

// Bindings is what routes mean in one cluster. It never changes.
type Bindings struct {
	Attached map[mesh.Destination]Attached
	Routes   []Binding // of each route that has a parent, as they came
}

// Binding is what became of one route.
type Binding struct {
	Route   *Route
	Parents []ParentBinding // of each of its parents, as they came
}

// ParentBinding is what became of a route with one parent: its conditions, of which an
// empty reason says that all is well.
type ParentBinding struct {
	Accepted Problem
	Refs     Problem
}

// Problem is why a condition is false, in the specification's word and for people. The zero
// value is that it is true.
type Problem struct{ Reason, Message string }

// The reasons, as the Gateway API calls them.
const (
	NoMatchingParent = "NoMatchingParent"
	UnsupportedValue = "UnsupportedValue"
	Conflicted       = "Conflicted"
	BackendNotFound  = "BackendNotFound"
	InvalidKind      = "InvalidKind"
	RefNotPermitted  = "RefNotPermitted"
)

// Bind attaches routes to the services of a cluster. ports gives those of a service that
// callers of this cluster know, by a [mesh.Destination] without a port: with the cluster as it has it,
// and without one as all have it; nil: there is no such service.
func Bind(set *Set, cluster mesh.ClusterName, ports func(mesh.Destination) []mesh.RoutePort) *Bindings {
	r := binder{cluster: cluster, ports: ports, grants: set.Grants, at: map[place]*attachments{}}
	out := &Bindings{Attached: map[mesh.Destination]Attached{}}
	routes := make([]*Route, 0, len(set.Routes))
	for i := range set.Routes {
		if len(set.Routes[i].Parents) > 0 {
			routes = append(routes, &set.Routes[i])
		}
	}
	for _, route := range routes {
		out.Routes = append(out.Routes, Binding{Route: route, Parents: make([]ParentBinding, len(route.Parents))})
	}
	// The older first: of routes that are too many, the younger are left out.
	order := make([]int, len(routes))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(routes[a].Kind, routes[b].Kind), compareAge(routes[a], routes[b])) // GRPCRoute, HTTPRoute
	})
	for _, i := range order {
		for n := range routes[i].Parents {
			out.Routes[i].Parents[n] = r.attach(routes[i], &routes[i].Parents[n])
		}
	}
	for at, all := range r.at {
		rules := all.rules()
		a := out.Attached[at.to]
		if at.namespace == "" {
			a.Rules = rules
		} else {
			if a.ByNamespace == nil {
				a.ByNamespace = map[string][]mesh.Rule{}
			}
			a.ByNamespace[at.namespace] = rules
		}
		out.Attached[at.to] = a
	}
	return out
}

// place is where routes are attached, and for whom.
type place struct {
	to        mesh.Destination
	namespace string // of the callers; empty: of everybody
}

// attachments are what is attached in one place.
type attachments struct {
	kind       Kind
	candidates []candidate
}

func (a *attachments) rules() []mesh.Rule {
	sortCandidates(a.candidates)
	rules := make([]mesh.Rule, len(a.candidates)) // not nil
	for i, c := range a.candidates {
		rules[i] = c.out
	}
	return rules
}

// binder attaches one route after the other.
type binder struct {
	cluster mesh.ClusterName
	ports   func(mesh.Destination) []mesh.RoutePort
	grants  []Grant
	at      map[place]*attachments
}

// attach attaches a route to one of its parents.
func (r *binder) attach(route *Route, p *Parent) (out ParentBinding) {
	if route.Unsupported != "" {
		out.Accepted = Problem{UnsupportedValue, route.Unsupported}
		return out
	}
	candidates, refs := r.candidates(route, p)
	out.Refs = refs
	d := mesh.Destination{Service: p.Service}
	if !p.Import {
		d.Cluster = r.cluster
	}
	namespace := ""
	if route.Namespace != p.Service.Namespace {
		namespace = route.Namespace
	}
	attached := false
	out.Accepted = Problem{NoMatchingParent, fmt.Sprintf("the mesh has no service %s in this cluster", p.Service)}
	known := r.ports(d)
	if len(known) > 0 {
		out.Accepted = Problem{NoMatchingParent, fmt.Sprintf("%s has no port that carries requests", p.Service)}
	}
	if p.Port != 0 && !slices.ContainsFunc(known, func(port mesh.RoutePort) bool { return port.Number == p.Port }) && len(known) > 0 {
		out.Accepted.Message = fmt.Sprintf("%s has no port %d", p.Service, p.Port)
	}
	for _, port := range known {
		if p.Port != 0 && p.Port != port.Number || !port.Protocol.IsHTTP() && port.Protocol != mesh.Auto {
			continue
		}
		d.Port = port.Number
		at := place{d, namespace}
		all := r.at[at]
		switch {
		case all == nil:
			all = &attachments{kind: route.Kind}
			r.at[at] = all
		case all.kind != route.Kind:
			if !attached {
				out.Accepted = Problem{Conflicted, fmt.Sprintf("a %s is attached to %s port %d, and only that kind counts there", all.kind, p.Service, port.Number)}
			}
			continue
		case len(all.candidates)+len(candidates) > MaxRules:
			if !attached {
				out.Accepted = Problem{UnsupportedValue, fmt.Sprintf("%s port %d has more than %d rules with those of older routes", p.Service, port.Number, MaxRules)}
			}
			continue
		}
		all.candidates = append(all.candidates, candidates...)
		attached, out.Accepted = true, Problem{}
	}
	return out
}

// candidates are the matches of a route, with what becomes of the requests that it is about
// for one of its parents.
func (r *binder) candidates(route *Route, p *Parent) (all []candidate, refs Problem) {
	for i := range route.Rules {
		rule := &route.Rules[i]
		action := rule.Action
		for _, b := range rule.Backends {
			to, problem := r.backend(route, p, b.Ref)
			if problem != (Problem{}) {
				refs = cmp.Or(refs, problem)
			}
			if b.Weight == 0 {
				continue
			}
			action.Backends = append(action.Backends, mesh.Backend{Destination: to, Weight: b.Weight, Request: b.Request, Response: b.Response})
		}
		for _, m := range rule.Mirrors {
			to, problem := r.backend(route, p, m.Ref)
			if problem != (Problem{}) {
				refs = cmp.Or(refs, problem)
				continue
			}
			action.Mirrors = append(action.Mirrors, mesh.Mirror{Destination: to, PerMillion: m.PerMillion})
		}
		name := fmt.Sprintf("%s rule %d", route, i)
		if rule.Name != "" {
			name = fmt.Sprintf("%s rule %s", route, rule.Name)
		}
		matches := rule.Matches
		if len(matches) == 0 {
			matches = []Match{{Match: mesh.Match{GRPC: route.Kind == GRPCRoute}}}
		}
		for _, m := range matches {
			if m.Path.Kind == "" {
				m.Path = everyPath
			}
			all = append(all, candidate{route: route, match: m, out: mesh.Rule{Name: name, Match: m.Match, Action: action}})
		}
	}
	return all, refs
}

// backend returns the destination that a reference means; zero: none, for the reason given.
func (r *binder) backend(route *Route, p *Parent, ref Ref) (mesh.Destination, Problem) {
	if ref.Kind != kindService && ref.Kind != kindImport {
		return mesh.Destination{}, Problem{InvalidKind, fmt.Sprintf("%s: backends are Services and ServiceImports", ref)}
	}
	if route.Namespace == p.Service.Namespace && ref.Service.Namespace != route.Namespace && !r.granted(route, ref) {
		return mesh.Destination{}, Problem{RefNotPermitted, fmt.Sprintf("%s: a ReferenceGrant in namespace %s has to allow it", ref, ref.Service.Namespace)}
	}
	d := mesh.Destination{Service: ref.Service, Cluster: r.cluster}
	if ref.Kind == kindImport {
		d.Cluster = ""
	}
	known := r.ports(d)
	switch at := slices.IndexFunc(known, func(o mesh.RoutePort) bool { return o.Number == ref.Port }); {
	case len(known) == 0:
		return mesh.Destination{}, Problem{BackendNotFound, fmt.Sprintf("%s: the mesh has no such service in this cluster", ref)}
	case ref.Port == 0:
		return mesh.Destination{}, Problem{BackendNotFound, fmt.Sprintf("%s: write its port", ref)}
	case at < 0:
		return mesh.Destination{}, Problem{BackendNotFound, fmt.Sprintf("%s: it has port %s", ref, numbers(known))}
	}
	d.Port = ref.Port
	return d, Problem{}
}

func numbers(ports []mesh.RoutePort) string {
	words := make([]string, len(ports))
	for i, p := range ports {
		words[i] = fmt.Sprint(p.Number)
	}
	return strings.Join(words, ", ")
}

func (r *binder) granted(route *Route, ref Ref) bool {
	return slices.ContainsFunc(r.grants, func(g Grant) bool {
		return g.Namespace == ref.Service.Namespace && g.Kind == route.Kind && g.From == route.Namespace && g.To == ref.Kind && (g.Name == "" || g.Name == ref.Service.Name)
	})
}
