package resource

// httpRouteResource is gateway.networking.k8s.io/v1 HTTPRoute, as far as a mesh does it.
type httpRouteResource struct {
	// gateway.networking.k8s.io/v1. Required.
	APIVersion string `yaml:"apiVersion"`
	// HTTPRoute. Required.
	Kind string `yaml:"kind"`
	// The route's name, and the namespace for whose callers it holds, unless that is the
	// parent's: then for all.
	Metadata routeMetadata `yaml:"metadata"`
	// What the route says.
	Spec struct {
		// The services whose requests it is about. Required.
		ParentRefs []parentResource `yaml:"parentRefs"`
		// Read and not used: a service is called by its own names.
		Hostnames []string `yaml:"hostnames"`
		// A request is treated as the rule says whose match asks for most. Default: all
		// requests, which are answered with 500.
		Rules []httpRuleResource `yaml:"rules"`
	} `yaml:"spec"`
}

// grpcRouteResource is gateway.networking.k8s.io/v1 GRPCRoute, likewise.
type grpcRouteResource struct {
	// gateway.networking.k8s.io/v1. Required.
	APIVersion string `yaml:"apiVersion"`
	// GRPCRoute. Required.
	Kind string `yaml:"kind"`
	// The route's name, and the namespace for whose callers it holds, unless that is the
	// parent's: then for all.
	Metadata routeMetadata `yaml:"metadata"`
	// What the route says.
	Spec struct {
		// The services whose calls it is about. Required.
		ParentRefs []parentResource `yaml:"parentRefs"`
		// Read and not used: a service is called by its own names.
		Hostnames []string `yaml:"hostnames"`
		// A call is treated as the rule says whose match asks for most. Default: all
		// calls, which fail.
		Rules []grpcRuleResource `yaml:"rules"`
	} `yaml:"spec"`
}

// routeMetadata is the metadata of a route.
type routeMetadata struct {
	// The namespace. Required.
	Namespace string `yaml:"namespace"`
	// The name, unique in its namespace. Required.
	Name string `yaml:"name"`
	// Read and not used.
	Labels map[string]string `yaml:"labels"`
	// isthmus.io/retry says what retry of an HTTPRoute's rule says, for every rule that has none, as
	// text, with statuses of gRPC by name: '{codes: [UNAVAILABLE, 503], attempts: 2, backoff: 50ms}'. They are
	// CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL and UNAVAILABLE. '{}': no answer, only
	// what was lost. Annotations of others are read and not used.
	Annotations map[string]string `yaml:"annotations"`
}

// parentResource names a service.
type parentResource struct {
	// "" with Service, multicluster.x-k8s.io with ServiceImport. What is of another group
	// is not the mesh's. Default: gateway.networking.k8s.io.
	Group *string `yaml:"group"`
	// Service is the service of this cluster (orders.shop.east.mesh), ServiceImport that of
	// all clusters (orders.shop.mesh). Default: Gateway.
	Kind string `yaml:"kind"`
	// Default: the route's.
	Namespace string `yaml:"namespace"`
	// Required.
	Name string `yaml:"name"`
	// Not done for services.
	SectionName string `yaml:"sectionName"`
	// A port of the service. Default: all.
	Port uint16 `yaml:"port"`
}

// httpRuleResource is a rule of an HTTPRoute.
type httpRuleResource struct {
	// For logs. Default: its number.
	Name string `yaml:"name"`
	// Any of them. Default: every request.
	Matches []httpMatchResource `yaml:"matches"`
	// What is changed of requests and answers.
	Filters []filterResource `yaml:"filters"`
	// Who answers. Default: nobody, which is 500.
	BackendRefs []backendResource `yaml:"backendRefs"`
	// What it may take.
	Timeouts timeoutsResource `yaml:"timeouts"`
	// What the rule matches may be executed more than once, whatever its method: it is sent again when
	// it was lost (once), when it took longer than timeouts.backendRequest, and after the answers of codes. Default:
	// what was lost is, where its method is idempotent, such as GET.
	Retry retryResource `yaml:"retry"`
}

// httpMatchResource holds when all that it says does.
type httpMatchResource struct {
	// Of the path as it came. Default: every path.
	Path pathMatchResource `yaml:"path"`
	// Header fields.
	Headers []valueMatchResource `yaml:"headers"`
	// Parameters of the query.
	QueryParams []valueMatchResource `yaml:"queryParams"`
	// The method.
	Method string `yaml:"method"`
}

type pathMatchResource struct {
	// Exact, PathPrefix (whole segments) or RegularExpression (RE2, of the whole path).
	// Default: PathPrefix.
	Type string `yaml:"type"`
	// Default: /.
	Value string `yaml:"value"`
}

// valueMatchResource is about a header field or a parameter.
type valueMatchResource struct {
	// Exact or RegularExpression (RE2, of the whole value). Default: Exact.
	Type string `yaml:"type"`
	// Required.
	Name string `yaml:"name"`
	// Required.
	Value string `yaml:"value"`
}

// filterResource is one filter, whose own key is beside type.
type filterResource struct {
	// RequestHeaderModifier, ResponseHeaderModifier, RequestMirror, and with an HTTPRoute
	// RequestRedirect or URLRewrite. Required.
	Type string `yaml:"type"`
	// Of the request.
	RequestHeaderModifier fieldsResource `yaml:"requestHeaderModifier"`
	// Of the answer.
	ResponseHeaderModifier fieldsResource `yaml:"responseHeaderModifier"`
	// Where a copy goes, whose answer nobody reads.
	RequestMirror mirrorResource `yaml:"requestMirror"`
	// The answer.
	RequestRedirect redirectResource `yaml:"requestRedirect"`
	// What the backend is asked for.
	URLRewrite rewriteResource `yaml:"urlRewrite"`
}

type fieldsResource struct {
	// Replaces.
	Set []fieldResource `yaml:"set"`
	// Comes beside what there is.
	Add []fieldResource `yaml:"add"`
	// Goes.
	Remove []string `yaml:"remove"`
}

type fieldResource struct {
	// Required.
	Name string `yaml:"name"`
	// Required.
	Value string `yaml:"value"`
}

type mirrorResource struct {
	// Required.
	BackendRef refResource `yaml:"backendRef"`
	// Of the requests. Default: 100.
	Percent *uint32 `yaml:"percent"`
	// Of the requests, in place of percent.
	Fraction fractionResource `yaml:"fraction"`
}

type fractionResource struct {
	// Required.
	Numerator *uint32 `yaml:"numerator"`
	// Default: 100.
	Denominator *uint32 `yaml:"denominator"`
}

type redirectResource struct {
	// http or https. Default: as the request came.
	Scheme string `yaml:"scheme"`
	// Default: the request's.
	Hostname string `yaml:"hostname"`
	// Default: the request's.
	Path pathRewriteResource `yaml:"path"`
	// Default: the scheme's, when that is said, and else the service's.
	Port uint16 `yaml:"port"`
	// 301, 302, 303, 307 or 308. Default: 302.
	StatusCode int `yaml:"statusCode"`
}

type rewriteResource struct {
	// In place of the request's host.
	Hostname string `yaml:"hostname"`
	// In place of its path.
	Path pathRewriteResource `yaml:"path"`
}

type pathRewriteResource struct {
	// ReplaceFullPath or ReplacePrefixMatch. Required.
	Type string `yaml:"type"`
	// With ReplaceFullPath.
	ReplaceFullPath string `yaml:"replaceFullPath"`
	// With ReplacePrefixMatch, in place of what a PathPrefix has matched.
	ReplacePrefixMatch string `yaml:"replacePrefixMatch"`
}

// refResource names a service.
type refResource struct {
	// "" with Service, multicluster.x-k8s.io with ServiceImport. Default: "".
	Group string `yaml:"group"`
	// Service is the service of this cluster, ServiceImport that of all clusters. Default:
	// Service.
	Kind string `yaml:"kind"`
	// Another one than the route's takes a ReferenceGrant there, where the route is in its
	// parent's. Default: the route's.
	Namespace string `yaml:"namespace"`
	// Required.
	Name string `yaml:"name"`
	// Required.
	Port uint16 `yaml:"port"`
}

// backendResource is a refResource with a weight.
type backendResource struct {
	// "" with Service, multicluster.x-k8s.io with ServiceImport. Default: "".
	Group string `yaml:"group"`
	// Service is the service of this cluster, ServiceImport that of all clusters. Default:
	// Service.
	Kind string `yaml:"kind"`
	// Another one than the route's takes a ReferenceGrant there, where the route is in its
	// parent's. Default: the route's.
	Namespace string `yaml:"namespace"`
	// Required.
	Name string `yaml:"name"`
	// Required.
	Port uint16 `yaml:"port"`
	// Its share of the requests, 0 to 1000000. Default: 1.
	Weight *uint32 `yaml:"weight"`
	// RequestHeaderModifier and ResponseHeaderModifier.
	Filters []filterResource `yaml:"filters"`
}

// timeoutsResource has durations such as 500ms or 1h30m; 0s is none.
type timeoutsResource struct {
	// From a request's head to the end of its answer. Default: what the caller's sidecar says.
	Request string `yaml:"request"`
	// Of one attempt. Default: none.
	BackendRequest string `yaml:"backendRequest"`
}

// grpcRuleResource is a rule of a GRPCRoute.
type grpcRuleResource struct {
	// For logs. Default: its number.
	Name string `yaml:"name"`
	// Any of them. Default: every call.
	Matches []grpcMatchResource `yaml:"matches"`
	// What is changed of calls and answers.
	Filters []filterResource `yaml:"filters"`
	// Who answers. Default: nobody: calls fail.
	BackendRefs []backendResource `yaml:"backendRefs"`
}

type grpcMatchResource struct {
	// Of the call. Default: every one.
	Method methodMatchResource `yaml:"method"`
	// Metadata.
	Headers []valueMatchResource `yaml:"headers"`
}

type methodMatchResource struct {
	// Exact or RegularExpression (RE2, of each in whole). Default: Exact.
	Type string `yaml:"type"`
	// The service with its package, such as shop.Orders. Default: every one.
	Service string `yaml:"service"`
	// Default: every one.
	Method string `yaml:"method"`
}

// grantResource is gateway.networking.k8s.io ReferenceGrant.
type grantResource struct {
	// gateway.networking.k8s.io/v1. Required.
	APIVersion string `yaml:"apiVersion"`
	// ReferenceGrant. Required.
	Kind string `yaml:"kind"`
	// Its namespace is that of the services.
	Metadata metadata `yaml:"metadata"`
	// What it allows.
	Spec struct {
		// Whose routes may. Required.
		From []struct {
			// gateway.networking.k8s.io. Required.
			Group string `yaml:"group"`
			// HTTPRoute or GRPCRoute. Required.
			Kind string `yaml:"kind"`
			// Of the routes. Required.
			Namespace string `yaml:"namespace"`
		} `yaml:"from"`
		// Which services they may name. Required.
		To []struct {
			// "" with Service, multicluster.x-k8s.io with ServiceImport.
			Group string `yaml:"group"`
			// Service or ServiceImport. Required.
			Kind string `yaml:"kind"`
			// Default: all.
			Name string `yaml:"name"`
		} `yaml:"to"`
	} `yaml:"spec"`
}
