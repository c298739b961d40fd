package resource

import (
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/strictyaml"
	"github.com/isthmus-mesh/isthmus/internal/traffic"
)

const (
	isthmusAPI = "isthmus.io/v1alpha1"
	mcsAlpha   = "multicluster.x-k8s.io/v1alpha1"
	mcsBeta    = "multicluster.x-k8s.io/v1beta1"
)

// Content is what the resources of one file say.
type Content struct {
	Services []Described
	Exports  []mesh.ServiceName
	Policies []Policy
	Routes   []Route
	Grants   []traffic.Grant
}

// Described is a service and the line that it begins at.
type Described struct {
	discovery.Described
	Line int
}

// Parse reads the resources of a file, or of whatever name says. It tells all faults and is strict: with one
// of them the content is not to be used.
func Parse(name string, data []byte) (Content, error) {
	if len(strings.TrimSpace(string(data))) == 0 {
		return Content{}, strictyaml.Faults{{Source: name, Problem: "is empty: remove the file to remove what it held"}}
	}
	docs, err := strictyaml.Parse(name, data)
	if err != nil {
		return Content{}, err
	}
	var c Content
	var faults strictyaml.Faults
	for _, doc := range docs {
		r := reader{doc: doc}
		api, kind := doc.Text("apiVersion"), doc.Text("kind")
		switch {
		case kind == "Service" && api == isthmusAPI:
			s, allow := r.service()
			if i := slices.IndexFunc(c.Services, func(o Described) bool { return o.Service.Name == s.Service.Name }); i >= 0 && r.faults == nil {
				r.fault("metadata.name", "%s is described at line %d already: join the two", s.Service.Name, c.Services[i].Line)
			}
			c.Services = append(c.Services, Described{s, doc.Line()})
			if allow != nil {
				c.Policies = append(c.Policies, Policy{*allow, doc.Line()})
			}
		case kind == "AuthorizationPolicy" && api == isthmusAPI:
			p := r.authorization()
			if i := slices.IndexFunc(c.Policies, func(o Policy) bool { return o.Name != "" && o.String() == p.String() }); i >= 0 && r.faults == nil {
				r.fault("metadata.name", "%s is at line %d already: join the two", p.String(), c.Policies[i].Line)
			}
			c.Policies = append(c.Policies, Policy{p, doc.Line()})
		case kind == "ServiceExport" && (api == mcsAlpha || api == mcsBeta):
			c.Exports = append(c.Exports, r.export())
		case (kind == string(traffic.HTTPRoute) || kind == string(traffic.GRPCRoute)) && api == gatewayAPI:
			route := r.httpOrGRPCRoute(traffic.Kind(kind))
			if i := slices.IndexFunc(c.Routes, func(o Route) bool { return o.String() == route.String() }); i >= 0 && r.faults == nil {
				r.fault("metadata.name", "%s is at line %d already: join the two", &route, c.Routes[i].Line)
			}
			c.Routes = append(c.Routes, Route{route, doc.Line()})
		case kind == "ReferenceGrant" && (api == gatewayAPI || api == gatewayBeta):
			c.Grants = append(c.Grants, r.grants()...)
		default:
			r.unknown(api, kind)
		}
		faults = append(faults, r.faults...)
	}
	if err := faults.Err(); err != nil {
		return Content{}, err
	}
	return c, nil
}

// unknown says why a document is none that is understood.
func (r *reader) unknown(api, kind string) {
	const forms = "write apiVersion: " + isthmusAPI + " and kind: Service or AuthorizationPolicy, apiVersion: " + mcsAlpha + " and kind: ServiceExport, or apiVersion: " +
		gatewayAPI + " and kind: HTTPRoute, GRPCRoute or ReferenceGrant"
	var decoded struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string `yaml:"kind"`
	}
	_ = r.doc.Decode(&decoded) // only so that faults have their lines
	switch {
	case kind == string(traffic.HTTPRoute) || kind == string(traffic.GRPCRoute) || kind == "ReferenceGrant":
		r.fault("apiVersion", "%q has no %s that is read here: write %s", api, kind, gatewayAPI)
	case kind == "":
		r.fault("kind", "is missing: %s", forms)
	case kind == "Service":
		r.fault("apiVersion", "%q has no Service with endpoints: write %s", api, isthmusAPI)
	case kind == "AuthorizationPolicy":
		r.fault("apiVersion", "%q has no AuthorizationPolicy that is read here: write %s", api, isthmusAPI)
	case kind == "ServiceExport":
		r.fault("apiVersion", "%q has no ServiceExport: write %s", api, mcsAlpha)
	default:
		r.fault("kind", "%q is not understood: %s", kind, forms)
	}
}
