package resource

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/traffic"
)

// The API groups of what routes name.
const (
	gatewayGroup = "gateway.networking.k8s.io"
	gatewayAPI   = gatewayGroup + "/v1"
	gatewayBeta  = gatewayGroup + "/v1beta1"
	mcsGroup     = "multicluster.x-k8s.io"
)

// Route is a route and the line that it begins at.
type Route struct {
	traffic.Route
	Line int
}

// httpOrGRPCRoute reads a route, which must be about a service.
func (r *reader) httpOrGRPCRoute(kind traffic.Kind) traffic.Route {
	read := r.httpRoute
	if kind == traffic.GRPCRoute {
		read = r.grpcRoute
	}
	route := read()
	if len(route.Parents) == 0 && r.faults == nil {
		r.fault("spec.parentRefs", "names no service: write [{group: \"\", kind: Service, name: orders}], or group: %s and kind: ServiceImport for the service of all clusters", mcsGroup)
	}
	return route
}

func (r *reader) httpRoute() traffic.Route {
	var s httpRouteResource
	if !r.decode(&s) {
		return traffic.Route{}
	}
	out, retry := r.route(traffic.HTTPRoute, s.Metadata, s.Spec.ParentRefs)
	for i := range s.Spec.Rules {
		in, key := &s.Spec.Rules[i], fmt.Sprintf("spec.rules[%d]", i)
		rule := traffic.RouteRule{Name: in.Name}
		for n := range in.Matches {
			rule.Matches = append(rule.Matches, r.httpMatch(fmt.Sprintf("%s.matches[%d]", key, n), &in.Matches[n]))
		}
		r.filters(key+".filters", in.Filters, &out, &rule)
		r.backends(key+".backendRefs", in.BackendRefs, &out, &rule)
		rule.Action.Timeout = r.duration(key+".timeouts.request", in.Timeouts.Request)
		rule.Action.BackendTimeout = r.duration(key+".timeouts.backendRequest", in.Timeouts.BackendRequest)
		if rule.Action.Retry = r.retryOf(key+".retry", &in.Retry); rule.Action.Retry == nil {
			rule.Action.Retry = retry
		}
		r.checkRule(key, &rule)
		out.Rules = append(out.Rules, rule)
	}
	return r.bounded(out)
}

func (r *reader) grpcRoute() traffic.Route {
	var s grpcRouteResource
	if !r.decode(&s) {
		return traffic.Route{}
	}
	out, retry := r.route(traffic.GRPCRoute, s.Metadata, s.Spec.ParentRefs)
	for i := range s.Spec.Rules {
		in, key := &s.Spec.Rules[i], fmt.Sprintf("spec.rules[%d]", i)
		rule := traffic.RouteRule{Name: in.Name, Action: mesh.Action{Retry: retry}}
		for n := range in.Matches {
			m, at := &in.Matches[n], fmt.Sprintf("%s.matches[%d]", key, n)
			kind := r.matchKind(at+".method.type", m.Method.Type)
			rule.Matches = append(rule.Matches, traffic.GRPCMatch(kind, m.Method.Service, m.Method.Method, r.values(at+".headers", m.Headers, true)))
		}
		r.filters(key+".filters", in.Filters, &out, &rule)
		r.backends(key+".backendRefs", in.BackendRefs, &out, &rule)
		r.checkRule(key, &rule)
		out.Rules = append(out.Rules, rule)
	}
	return r.bounded(out)
}

// bounded adds the rule of a route that has none, and refuses one that has too many.
func (r *reader) bounded(route traffic.Route) traffic.Route {
	n := 0
	for i := range route.Rules {
		n += max(len(route.Rules[i].Matches), 1)
	}
	if n > traffic.MaxRules {
		r.fault("spec.rules", "has %d matches: at most %d are read", n, traffic.MaxRules)
	}
	if len(route.Rules) == 0 {
		route.Rules = []traffic.RouteRule{{}}
	}
	return route
}

// checkRule checks what the parts of a rule are together. Faults name the part of it that
// package traffic knows.
func (r *reader) checkRule(key string, rule *traffic.RouteRule) {
	for i := range rule.Matches {
		at := fmt.Sprintf("%s.matches[%d]", key, i)
		traffic.CheckMatch(&rule.Matches[i].Match, func(part, format string, args ...any) {
			if rule.Matches[i].GRPC {
				part = strings.Replace(part, "path", "method", 1)
			}
			r.fault(at+"."+part, format, args...)
		})
		traffic.CheckAction(&rule.Action, &rule.Matches[i].Match, func(_, format string, args ...any) { r.fault(key+".filters", format, args...) })
	}
	if len(rule.Matches) == 0 {
		every := mesh.Match{Path: mesh.PathMatch{Kind: mesh.Prefix, Value: "/"}}
		traffic.CheckAction(&rule.Action, &every, func(_, format string, args ...any) { r.fault(key+".filters", format, args...) })
	}
	for i := range rule.Backends {
		a := mesh.Action{Request: rule.Backends[i].Request, Response: rule.Backends[i].Response}
		traffic.CheckAction(&a, nil, func(_, format string, args ...any) {
			r.fault(fmt.Sprintf("%s.backendRefs[%d].filters", key, i), format, args...)
		})
	}
	if a := &rule.Action; a.Redirect != nil && (len(rule.Backends) > 0 || a.Rewrite != (mesh.Rewrite{})) {
		r.fault(key+".filters", "a RequestRedirect is the answer: remove backendRefs and URLRewrite beside it")
	}
	if a := &rule.Action; a.BackendTimeout > 0 && a.Timeout > 0 && a.BackendTimeout > a.Timeout {
		r.fault(key+".timeouts.backendRequest", "must not be longer than timeouts.request")
	}
}

// route reads what routes of both kinds have, and the retry of its rules that say nothing of it.
func (r *reader) route(kind traffic.Kind, m routeMetadata, parents []parentResource) (traffic.Route, *mesh.Retry) {
	r.label("metadata.namespace", m.Namespace)
	if m.Name == "" {
		r.fault("metadata.name", "is missing: write metadata: {namespace: shop, name: orders}")
	}
	for part := range strings.SplitSeq(m.Name, ".") {
		if err := mesh.CheckLabel(part); m.Name != "" && err != nil {
			r.fault("metadata.name", "%v", err)
			break
		}
	}
	out, retry := traffic.Route{Kind: kind, Namespace: m.Namespace, Name: m.Name}, r.annotatedRetry(m.Annotations)
	if len(parents) > maxParents {
		r.fault("spec.parentRefs", "has %d: at most %d are read", len(parents), maxParents)
		return out, retry
	}
	for i, p := range parents {
		key := fmt.Sprintf("spec.parentRefs[%d]", i)
		group := gatewayGroup
		if p.Group != nil {
			group = *p.Group
		}
		switch {
		case group == "" && p.Kind == "Service", group == mcsGroup && p.Kind == "ServiceImport":
		case group == gatewayGroup && p.Kind == "Service":
			r.fault(key+".group", "%s has no Service: write group: \"\"", group)
			continue
		case group == gatewayGroup && p.Kind == "ServiceImport":
			r.fault(key+".group", "%s has no ServiceImport: write group: %s", group, mcsGroup)
			continue
		default:
			continue // somebody else's, such as a Gateway
		}
		if p.SectionName != "" {
			r.fault(key+".sectionName", "is not done for services: write port")
		}
		name := mesh.ServiceName{Namespace: p.Namespace, Name: p.Name}
		if name.Namespace == "" {
			name.Namespace = m.Namespace
		}
		r.label(key+".namespace", name.Namespace)
		r.label(key+".name", name.Name)
		out.Parents = append(out.Parents, traffic.Parent{Service: name, Import: p.Kind == "ServiceImport", Port: p.Port, Ref: i})
	}
	return out, retry
}

func (r *reader) httpMatch(key string, m *httpMatchResource) traffic.Match {
	var out traffic.Match
	out.Method = m.Method
	out.Path = mesh.PathMatch{Kind: mesh.Prefix, Value: m.Path.Value}
	switch m.Path.Type {
	case "", "PathPrefix":
	case "Exact":
		out.Path.Kind = mesh.Exact
	case "RegularExpression":
		out.Path.Kind = mesh.Regex
	default:
		r.fault(key+".path.type", "%q is not known: write Exact, PathPrefix or RegularExpression", m.Path.Type)
	}
	if out.Path.Value == "" {
		out.Path.Value = "/"
	}
	out.Headers = r.values(key+".headers", m.Headers, true)
	out.Query = r.values(key+".queryParams", m.QueryParams, false)
	return out
}

// values reads matches of names, of which the first of a name counts.
func (r *reader) values(key string, from []valueMatchResource, fields bool) (all []mesh.ValueMatch) {
	seen := map[string]bool{}
	for i, v := range from {
		name := v.Name
		if fields {
			name = strings.ToLower(name)
		}
		kind := r.matchKind(fmt.Sprintf("%s[%d].type", key, i), v.Type)
		if !seen[name] {
			all = append(all, mesh.ValueMatch{Name: name, Kind: kind, Value: v.Value})
		}
		seen[name] = true
	}
	return all
}

func (r *reader) matchKind(key, word string) mesh.MatchKind {
	switch word {
	case "", "Exact":
	case "RegularExpression":
		return mesh.Regex
	default:
		r.fault(key, "%q is not known: write Exact or RegularExpression", word)
	}
	return mesh.Exact
}

// filters reads the filters of a rule.
func (r *reader) filters(key string, from []filterResource, route *traffic.Route, rule *traffic.RouteRule) {
	seen := map[string]bool{}
	for i := range from {
		f, at := &from[i], fmt.Sprintf("%s[%d]", key, i)
		if seen[f.Type] && f.Type != "RequestMirror" {
			r.fault(at+".type", "%s is there already: join the two", f.Type)
		}
		seen[f.Type] = true
		http := route.Kind == traffic.HTTPRoute
		switch {
		case f.Type == "RequestHeaderModifier":
			rule.Action.Request = r.fields(f.RequestHeaderModifier)
		case f.Type == "ResponseHeaderModifier":
			rule.Action.Response = r.fields(f.ResponseHeaderModifier)
		case f.Type == "RequestMirror":
			r.mirror(at+".requestMirror", &f.RequestMirror, route, rule)
		case f.Type == "RequestRedirect" && http:
			in := &f.RequestRedirect
			rule.Action.Redirect = &mesh.Redirect{Scheme: in.Scheme, Host: in.Hostname, Path: r.pathRewrite(at+".requestRedirect.path", &in.Path), Port: in.Port, Status: in.StatusCode}
			if in.StatusCode == 0 {
				rule.Action.Redirect.Status = 302
			}
		case f.Type == "URLRewrite" && http:
			rule.Action.Rewrite = mesh.Rewrite{Host: f.URLRewrite.Hostname, Path: r.pathRewrite(at+".urlRewrite.path", &f.URLRewrite.Path)}
		default:
			r.fault(at+".type", "%q is not done for a %s whose parents are services", f.Type, route.Kind)
		}
	}
	if len(rule.Mirrors) > traffic.MaxMirrors {
		r.fault(key, "has %d mirrors: at most %d are read", len(rule.Mirrors), traffic.MaxMirrors)
	}
}

func (r *reader) fields(from fieldsResource) (out mesh.Fields) {
	for _, f := range from.Set {
		out.Set = append(out.Set, mesh.Field{Name: strings.ToLower(f.Name), Value: f.Value})
	}
	for _, f := range from.Add {
		out.Add = append(out.Add, mesh.Field{Name: strings.ToLower(f.Name), Value: f.Value})
	}
	for _, name := range from.Remove {
		out.Remove = append(out.Remove, strings.ToLower(name))
	}
	return out
}

func (r *reader) pathRewrite(key string, from *pathRewriteResource) mesh.PathRewrite {
	switch from.Type {
	case "":
		if r.doc.Has(key) {
			r.fault(key+".type", "is missing: write ReplaceFullPath or ReplacePrefixMatch")
		}
		return mesh.PathRewrite{}
	case "ReplaceFullPath":
		return mesh.PathRewrite{Kind: mesh.ReplaceFull, Value: from.ReplaceFullPath}
	case "ReplacePrefixMatch":
		return mesh.PathRewrite{Kind: mesh.ReplacePrefix, Value: from.ReplacePrefixMatch}
	}
	r.fault(key+".type", "%q is not known: write ReplaceFullPath or ReplacePrefixMatch", from.Type)
	return mesh.PathRewrite{}
}

func (r *reader) mirror(key string, from *mirrorResource, route *traffic.Route, rule *traffic.RouteRule) {
	part, of := uint64(100), uint64(100)
	switch {
	case from.Percent != nil && r.doc.Has(key+".fraction"):
		r.fault(key, "has percent and fraction: remove one")
	case from.Percent != nil:
		part = uint64(*from.Percent)
	case r.doc.Has(key + ".fraction"):
		if from.Fraction.Numerator == nil {
			r.fault(key+".fraction.numerator", "is missing")
			return
		}
		part = uint64(*from.Fraction.Numerator)
		if from.Fraction.Denominator != nil {
			of = uint64(*from.Fraction.Denominator)
		}
	}
	if of == 0 || part > of {
		r.fault(key, "%d of %d is no part of the requests", part, of)
		return
	}
	ref := r.ref(key+".backendRef", from.BackendRef, route)
	rule.Mirrors = append(rule.Mirrors, traffic.Mirror{Ref: ref, PerMillion: uint32(part * 1_000_000 / of)})
}

// ref reads the name of a service. Of another kind it is read, and refused where it counts: a
// route may be right in all else.
func (r *reader) ref(key string, from refResource, route *traffic.Route) traffic.Ref {
	out := traffic.Ref{Kind: from.Kind, Service: mesh.ServiceName{Namespace: from.Namespace, Name: from.Name}, Port: from.Port}
	if out.Kind == "" {
		out.Kind = "Service"
	}
	if !(from.Group == "" && out.Kind == "Service" || from.Group == mcsGroup && out.Kind == "ServiceImport") {
		out.Kind = strings.TrimPrefix(from.Group+"/"+out.Kind, "/")
		if from.Group == "" {
			out.Kind = "core/" + out.Kind
		}
	}
	if out.Service.Namespace == "" {
		out.Service.Namespace = route.Namespace
	}
	if from.Name == "" {
		r.fault(key+".name", "is missing: write the name of a service")
	}
	return out
}

func (r *reader) backends(key string, from []backendResource, route *traffic.Route, rule *traffic.RouteRule) {
	if len(from) > traffic.MaxBackends {
		r.fault(key, "has %d: at most %d are read", len(from), traffic.MaxBackends)
		return
	}
	for i := range from {
		in, at := &from[i], fmt.Sprintf("%s[%d]", key, i)
		b := traffic.BackendRef{Ref: r.ref(at, refResource{in.Group, in.Kind, in.Namespace, in.Name, in.Port}, route), Weight: 1}
		if in.Weight != nil {
			if b.Weight = *in.Weight; b.Weight > traffic.MaxWeight {
				r.fault(at+".weight", "%d is out of range: write 0 to %d", b.Weight, traffic.MaxWeight)
			}
		}
		for n := range in.Filters {
			switch f := &in.Filters[n]; f.Type {
			case "RequestHeaderModifier":
				b.Request = r.fields(f.RequestHeaderModifier)
			case "ResponseHeaderModifier":
				b.Response = r.fields(f.ResponseHeaderModifier)
			default:
				r.fault(fmt.Sprintf("%s.filters[%d].type", at, n), "%q is not done for a backend: write it beside backendRefs", f.Type)
			}
		}
		rule.Backends = append(rule.Backends, b)
	}
}

// durationForm is how the Gateway API writes durations (GEP-2257).
var durationForm = regexp.MustCompile(`^([0-9]{1,5}(h|m|s|ms)){1,4}$`)

func (r *reader) duration(key, text string) time.Duration {
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || !durationForm.MatchString(text) {
		r.fault(key, "%q is no duration: write one such as 10s or 1h30m", text)
	}
	return d
}

func (r *reader) grants() (all []traffic.Grant) {
	var s grantResource
	if !r.decode(&s) {
		return nil
	}
	r.label("metadata.namespace", s.Metadata.Namespace)
	if len(s.Spec.From)*len(s.Spec.To) > maxGrants {
		r.fault("spec", "has %d times %d entries: at most %d are read", len(s.Spec.From), len(s.Spec.To), maxGrants)
		return nil
	}
	for _, from := range s.Spec.From {
		for _, to := range s.Spec.To {
			if from.Group != gatewayGroup || to.Group != "" && to.Group != mcsGroup {
				continue // about other kinds than ours
			}
			all = append(all, traffic.Grant{Namespace: s.Metadata.Namespace, Kind: traffic.Kind(from.Kind), From: from.Namespace, To: to.Kind, Name: to.Name})
		}
	}
	return all
}
