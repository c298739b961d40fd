package xds

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// RulesType is the type of a destination's rules, which have the destination's name.
const RulesType = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"

// nowhere is the name of a Cluster that is never there: who asks for it is answered with 500.
const nowhere = "isthmus.invalid"

// NeedsRules reports whether requests of a route wait for its rules: what is spoken may be HTTP.
func NeedsRules(r *mesh.Route) bool {
	return r.Destination.Port != 0 && (r.Protocol.IsHTTP() || r.Protocol == mesh.Auto)
}

// encodeRules translates the rules of a destination. Without any there is one route without a
// name, which leads to the destination's own Cluster, so that Envoys can always ask for it.
func encodeRules(d mesh.Destination, rules []mesh.Rule) (*discoveryv3.Resource, error) {
	host := &routev3.VirtualHost{Name: d.String(), Domains: []string{"*"}}
	if rules == nil {
		host.Routes = []*routev3.Route{{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: d.String()}, Timeout: &durationpb.Duration{}}},
		}}
	}
	for i := range rules {
		r, err := routeOf(&rules[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", rules[i].Name, err)
		}
		host.Routes = append(host.Routes, r)
	}
	return resource(d.String(), RulesType, &routev3.RouteConfiguration{Name: d.String(), VirtualHosts: []*routev3.VirtualHost{host}})
}

func routeOf(r *mesh.Rule) (*routev3.Route, error) {
	m, err := encodeMatch(&r.Match)
	if err != nil {
		return nil, err
	}
	a := &r.Action
	out := &routev3.Route{Name: r.Name, Match: m}
	out.RequestHeadersToAdd, out.RequestHeadersToRemove = encodeFields(&a.Request)
	out.ResponseHeadersToAdd, out.ResponseHeadersToRemove = encodeFields(&a.Response)
	switch {
	case a.Redirect != nil:
		out.Action = &routev3.Route_Redirect{Redirect: encodeRedirect(a.Redirect, &r.Match)}
	case len(a.Backends) == 0:
		out.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: http.StatusInternalServerError}}
	default:
		out.Action = &routev3.Route_Route{Route: encodeAction(a, &r.Match)}
	}
	return out, nil
}

func encodeMatch(m *mesh.Match) (*routev3.RouteMatch, error) {
	out := &routev3.RouteMatch{}
	switch p := &m.Path; {
	case p.Kind == mesh.Exact:
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: p.Value}
	case p.Kind == mesh.Regex:
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: p.Value}}
	case p.Kind != "" && p.Kind != mesh.Prefix:
		return nil, fmt.Errorf("path matches of type %q", p.Kind)
	case prefixOf(p) == "":
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/"}
	default:
		out.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: prefixOf(p)}
	}
	if m.GRPC {
		out.Grpc = &routev3.RouteMatch_GrpcRouteMatchOptions{}
	}
	if m.Method != "" {
		out.Headers = append(out.Headers, &routev3.HeaderMatcher{Name: methodField, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: encodeText(mesh.Exact, m.Method)}})
	}
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, &routev3.HeaderMatcher{Name: h.Name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: encodeText(h.Kind, h.Value)}})
	}
	for _, q := range m.Query {
		out.QueryParameters = append(out.QueryParameters, &routev3.QueryParameterMatcher{Name: q.Name, QueryParameterMatchSpecifier: &routev3.QueryParameterMatcher_StringMatch{StringMatch: encodeText(q.Kind, q.Value)}})
	}
	return out, nil
}

// methodField is the header field by which Envoy knows a request's method.
const methodField = ":method"

// prefixOf is the prefix of a path match without a slash at its end.
func prefixOf(p *mesh.PathMatch) string { return strings.TrimRight(p.Value, "/") }

func encodeText(kind mesh.MatchKind, text string) *matcherv3.StringMatcher {
	if kind == mesh.Regex {
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: text}}}
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: text}}
}

func encodeFields(f *mesh.Fields) (add []*corev3.HeaderValueOption, remove []string) {
	for _, x := range f.Set {
		add = append(add, fieldOption(x, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD))
	}
	for _, x := range f.Add {
		add = append(add, fieldOption(x, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD))
	}
	return add, f.Remove
}

// fieldOption spells a field. In its value Envoy takes % for the beginning of a command.
func fieldOption(f mesh.Field, action corev3.HeaderValueOption_HeaderAppendAction) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: f.Name, Value: strings.ReplaceAll(f.Value, "%", "%%")}, AppendAction: action, KeepEmptyValue: true}
}

func encodeAction(a *mesh.Action, m *mesh.Match) *routev3.RouteAction {
	weighted := &routev3.WeightedCluster{}
	for i := range a.Backends {
		b := &a.Backends[i]
		w := &routev3.WeightedCluster_ClusterWeight{Name: nowhere, Weight: wrapperspb.UInt32(b.Weight)}
		if b.Destination != (mesh.Destination{}) {
			w.Name = b.Destination.String()
		}
		w.RequestHeadersToAdd, w.RequestHeadersToRemove = encodeFields(&b.Request)
		w.ResponseHeadersToAdd, w.ResponseHeadersToRemove = encodeFields(&b.Response)
		weighted.Clusters = append(weighted.Clusters, w)
	}
	out := &routev3.RouteAction{
		ClusterSpecifier:            &routev3.RouteAction_WeightedClusters{WeightedClusters: weighted},
		ClusterNotFoundResponseCode: routev3.RouteAction_INTERNAL_SERVER_ERROR,
		Timeout:                     durationpb.New(a.Timeout), // 0 is none, and left out it would be 15 s
	}
	out.RetryPolicy = encodeRetry(a.Retry, a.BackendTimeout)
	if a.Rewrite.Host != "" {
		out.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: a.Rewrite.Host}
	}
	out.PrefixRewrite, out.RegexRewrite = encodeRewrite(&a.Rewrite.Path, m)
	for _, x := range a.Mirrors {
		out.RequestMirrorPolicies = append(out.RequestMirrorPolicies, &routev3.RouteAction_RequestMirrorPolicy{
			Cluster: x.Destination.String(), DisableShadowHostSuffixAppend: true,
			RuntimeFraction: &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{Numerator: x.PerMillion, Denominator: typev3.FractionalPercent_MILLION}},
		})
	}
	return out
}

// wholePath is the expression whose match is a whole path, which is replaced.
const wholePath = "^/.*$"

// encodeRewrite spells how a path is replaced, in one of two ways: Envoy would make //b of /a/b
// where the prefix /a is replaced by /, and has no word for a whole path.
func encodeRewrite(w *mesh.PathRewrite, m *mesh.Match) (prefix string, regex *matcherv3.RegexMatchAndSubstitute) {
	replace := func(pattern, by string) *matcherv3.RegexMatchAndSubstitute {
		return &matcherv3.RegexMatchAndSubstitute{Pattern: &matcherv3.RegexMatcher{Regex: pattern}, Substitution: strings.ReplaceAll(by, `\`, `\\`)}
	}
	switch {
	case w.Kind == mesh.ReplaceFull:
		return "", replace(wholePath, w.Value)
	case w.Kind != mesh.ReplacePrefix:
		return "", nil
	}
	by := strings.TrimRight(w.Value, "/")
	if from := prefixOf(&m.Path); from == "" || by == "" {
		return "", replace("^"+regexp.QuoteMeta(from)+"/*", by+"/")
	}
	return by, nil
}

func encodeRedirect(r *mesh.Redirect, m *mesh.Match) *routev3.RedirectAction {
	out := &routev3.RedirectAction{HostRedirect: r.Host, PortRedirect: uint32(r.Port), ResponseCode: redirectCodes[r.Status]}
	if r.Scheme != "" {
		out.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: r.Scheme}
	}
	switch prefix, regex := encodeRewrite(&r.Path, m); {
	case r.Path.Kind == mesh.ReplaceFull:
		out.PathRewriteSpecifier = &routev3.RedirectAction_PathRedirect{PathRedirect: r.Path.Value}
	case regex != nil:
		out.PathRewriteSpecifier = &routev3.RedirectAction_RegexRewrite{RegexRewrite: regex}
	case prefix != "":
		out.PathRewriteSpecifier = &routev3.RedirectAction_PrefixRewrite{PrefixRewrite: prefix}
	}
	return out
}

var redirectCodes = map[int]routev3.RedirectAction_RedirectResponseCode{
	301: routev3.RedirectAction_MOVED_PERMANENTLY, 302: routev3.RedirectAction_FOUND, 303: routev3.RedirectAction_SEE_OTHER,
	307: routev3.RedirectAction_TEMPORARY_REDIRECT, 308: routev3.RedirectAction_PERMANENT_REDIRECT,
}
