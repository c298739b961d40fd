package xds

import (
	"fmt"
	"math"
	"net/http"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/traffic"
)

// DecodeRules reads the rules of a destination from the marshalled RouteConfiguration that
// [Encode] made of them; nil: there are none. The bytes may come from anywhere. What is not
// known here, as of a newer gateway, is an error: a condition that is left out matches more.
func DecodeRules(d mesh.Destination, b []byte) ([]mesh.Rule, error) {
	m := &routev3.RouteConfiguration{}
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	if m.GetName() != d.String() {
		return nil, fmt.Errorf("rules of %s: they are of %q", d, m.GetName())
	}
	if len(m.GetVirtualHosts()) != 1 {
		return nil, fmt.Errorf("rules of %s: %d virtual hosts, of which there is one", d, len(m.GetVirtualHosts()))
	}
	routes := m.GetVirtualHosts()[0].GetRoutes()
	if len(routes) == 1 && routes[0].GetName() == "" {
		return nil, nil
	}
	if len(routes) > traffic.MaxRules {
		return nil, fmt.Errorf("rules of %s: %d, at most %d", d, len(routes), traffic.MaxRules)
	}
	rules := make([]mesh.Rule, len(routes))
	for i, r := range routes {
		if err := ruleOf(r, &rules[i]); err != nil {
			return nil, fmt.Errorf("rules of %s: %s: %w", d, r.GetName(), err)
		}
	}
	if _, err := traffic.Compile(rules); err != nil {
		return nil, fmt.Errorf("rules of %s: %w", d, err)
	}
	return rules, nil
}

func ruleOf(r *routev3.Route, out *mesh.Rule) (err error) {
	out.Name = r.GetName()
	if out.Match, err = decodeMatch(r.GetMatch()); err != nil {
		return err
	}
	a := &out.Action
	if a.Request, err = decodeFields(r.GetRequestHeadersToAdd(), r.GetRequestHeadersToRemove()); err != nil {
		return err
	}
	if a.Response, err = decodeFields(r.GetResponseHeadersToAdd(), r.GetResponseHeadersToRemove()); err != nil {
		return err
	}
	switch action := r.GetAction().(type) {
	case *routev3.Route_Redirect:
		a.Redirect, err = decodeRedirect(action.Redirect)
	case *routev3.Route_DirectResponse:
		if action.DirectResponse.GetStatus() != http.StatusInternalServerError {
			err = fmt.Errorf("it answers with %d, which is not known", action.DirectResponse.GetStatus())
		}
	case *routev3.Route_Route:
		err = decodeAction(action.Route, a)
	default:
		err = fmt.Errorf("action %T is not known", action)
	}
	return err
}

func decodeMatch(m *routev3.RouteMatch) (out mesh.Match, err error) {
	switch p := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Path:
		out.Path = mesh.PathMatch{Kind: mesh.Exact, Value: p.Path}
	case *routev3.RouteMatch_Prefix:
		if out.Path = (mesh.PathMatch{Kind: mesh.Prefix, Value: p.Prefix}); p.Prefix != "/" {
			return out, fmt.Errorf("prefix %q is not one of segments", p.Prefix)
		}
	case *routev3.RouteMatch_PathSeparatedPrefix:
		out.Path = mesh.PathMatch{Kind: mesh.Prefix, Value: p.PathSeparatedPrefix}
	case *routev3.RouteMatch_SafeRegex:
		out.Path = mesh.PathMatch{Kind: mesh.Regex, Value: p.SafeRegex.GetRegex()}
	default:
		return out, fmt.Errorf("path match %T is not known", p)
	}
	if m.GetCaseSensitive() != nil || m.GetRuntimeFraction() != nil || m.GetTlsContext() != nil || len(m.GetDynamicMetadata())+len(m.GetFilterState())+len(m.GetCookies())+len(m.ProtoReflect().GetUnknown()) > 0 {
		return out, fmt.Errorf("it has a condition that is not known")
	}
	out.GRPC = m.GetGrpc() != nil
	for _, h := range m.GetHeaders() {
		v := mesh.ValueMatch{Name: h.GetName()}
		if v.Kind, v.Value, err = decodeText(h.GetStringMatch()); err != nil || h.GetInvertMatch() || h.GetTreatMissingHeaderAsEmpty() {
			return out, fmt.Errorf("the match of header %s is not known", h.GetName())
		}
		if h.GetName() == methodField {
			out.Method = v.Value
			continue
		}
		out.Headers = append(out.Headers, v)
	}
	for _, q := range m.GetQueryParameters() {
		v := mesh.ValueMatch{Name: q.GetName()}
		if v.Kind, v.Value, err = decodeText(q.GetStringMatch()); err != nil {
			return out, fmt.Errorf("the match of parameter %s is not known", q.GetName())
		}
		out.Query = append(out.Query, v)
	}
	return out, nil
}

func decodeText(m *matcherv3.StringMatcher) (mesh.MatchKind, string, error) {
	if m.GetIgnoreCase() {
		return "", "", fmt.Errorf("a match in either case is not known")
	}
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		return mesh.Exact, p.Exact, nil
	case *matcherv3.StringMatcher_SafeRegex:
		return mesh.Regex, p.SafeRegex.GetRegex(), nil
	default:
		return "", "", fmt.Errorf("match %T is not known", p)
	}
}

func decodeFields(add []*corev3.HeaderValueOption, remove []string) (f mesh.Fields, err error) {
	f.Remove = remove
	for _, o := range add {
		x := mesh.Field{Name: o.GetHeader().GetKey(), Value: strings.ReplaceAll(o.GetHeader().GetValue(), "%%", "%")}
		switch o.GetAppendAction() {
		case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
			f.Set = append(f.Set, x)
		case corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
			f.Add = append(f.Add, x)
		default:
			return f, fmt.Errorf("header %s: %s is not known", x.Name, o.GetAppendAction())
		}
	}
	return f, nil
}

func decodeAction(r *routev3.RouteAction, out *mesh.Action) (err error) {
	for _, w := range r.GetWeightedClusters().GetClusters() {
		b := mesh.Backend{Weight: w.GetWeight().GetValue()}
		if w.GetName() != nowhere {
			if b.Destination, err = decodeDestination(w.GetName()); err != nil {
				return err
			}
		}
		if b.Request, err = decodeFields(w.GetRequestHeadersToAdd(), w.GetRequestHeadersToRemove()); err != nil {
			return err
		}
		if b.Response, err = decodeFields(w.GetResponseHeadersToAdd(), w.GetResponseHeadersToRemove()); err != nil {
			return err
		}
		out.Backends = append(out.Backends, b)
	}
	if len(out.Backends) == 0 {
		return fmt.Errorf("it leads to %T, which is not known", r.GetClusterSpecifier())
	}
	out.Timeout, out.BackendTimeout = r.GetTimeout().AsDuration(), r.GetRetryPolicy().GetPerTryTimeout().AsDuration()
	if out.Retry, err = decodeRetry(r.GetRetryPolicy()); err != nil {
		return err
	}
	out.Rewrite.Host = r.GetHostRewriteLiteral()
	if out.Rewrite.Path, err = decodeRewrite(r.GetPrefixRewrite(), r.GetRegexRewrite()); err != nil {
		return err
	}
	for _, p := range r.GetRequestMirrorPolicies() {
		part := p.GetRuntimeFraction().GetDefaultValue()
		if part.GetDenominator() != typev3.FractionalPercent_MILLION {
			return fmt.Errorf("a mirror's part in %s is not known", part.GetDenominator())
		}
		m := mesh.Mirror{PerMillion: part.GetNumerator()}
		if m.Destination, err = decodeDestination(p.GetCluster()); err != nil {
			return err
		}
		out.Mirrors = append(out.Mirrors, m)
	}
	return nil
}

// decodeDestination reads the name of a Cluster, which has a port.
func decodeDestination(name string) (mesh.Destination, error) {
	d, err := mesh.ParseDestinationName(name)
	if err == nil && (d.Port == 0 || d.String() != name) {
		err = fmt.Errorf("%q names no port of a service", name)
	}
	return d, err
}

func decodeRewrite(prefix string, regex *matcherv3.RegexMatchAndSubstitute) (mesh.PathRewrite, error) {
	by := strings.ReplaceAll(regex.GetSubstitution(), `\\`, `\`)
	switch pattern := regex.GetPattern().GetRegex(); {
	case regex == nil && prefix == "":
		return mesh.PathRewrite{}, nil
	case regex == nil:
		return mesh.PathRewrite{Kind: mesh.ReplacePrefix, Value: prefix}, nil
	case pattern == wholePath:
		return mesh.PathRewrite{Kind: mesh.ReplaceFull, Value: by}, nil
	case strings.HasSuffix(pattern, "/*"):
		return mesh.PathRewrite{Kind: mesh.ReplacePrefix, Value: by}, nil
	default:
		return mesh.PathRewrite{}, fmt.Errorf("the rewrite of paths by %q is not known", pattern)
	}
}

func decodeRedirect(r *routev3.RedirectAction) (*mesh.Redirect, error) {
	out := &mesh.Redirect{Host: r.GetHostRedirect(), Scheme: r.GetSchemeRedirect()}
	if r.GetPortRedirect() > math.MaxUint16 {
		return nil, fmt.Errorf("it redirects to port %d", r.GetPortRedirect())
	}
	out.Port = uint16(r.GetPortRedirect())
	for status, code := range redirectCodes {
		if code == r.GetResponseCode() {
			out.Status = status
		}
	}
	if p := r.GetPathRedirect(); p != "" {
		out.Path = mesh.PathRewrite{Kind: mesh.ReplaceFull, Value: p}
		return out, nil
	}
	var err error
	out.Path, err = decodeRewrite(r.GetPrefixRewrite(), r.GetRegexRewrite())
	return out, err
}
