package traffic

import (
	"fmt"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Kind is the kind of a route.
type Kind string

// The kinds. A GRPCRoute's matches are of gRPC requests only.
const (
	HTTPRoute Kind = "HTTPRoute"
	GRPCRoute Kind = "GRPCRoute"
)

// Route is what is written of where the requests to services go.
type Route struct {
	Kind      Kind
	Namespace string
	Name      string
	Created   time.Time // zero: it does not matter, as that of a file
	// Generation is which state of an object it is; 0: it is none of an API server's.
	Generation int64
	Parents    []Parent
	Rules      []RouteRule
	// Unsupported says what of the route cannot be done: it is not in force. Empty: nothing.
	Unsupported string
}

// String names r as its author knows it.
func (r *Route) String() string { return string(r.Kind) + " " + r.Namespace + "/" + r.Name }

// Parent is a service whose requests a route is about.
type Parent struct {
	Service mesh.ServiceName
	Import  bool   // of all clusters
	Port    uint16 // 0: all
	Ref     int    // which of the route's references it is
}

// RouteRule is one rule of a route.
type RouteRule struct {
	Name    string  // empty: it has none
	Matches []Match // any of them; none: every request
	// Action has neither backends nor mirrors, which stand beside it.
	Action   mesh.Action
	Backends []BackendRef
	Mirrors  []Mirror
}

// Match is one match of a rule.
type Match struct {
	mesh.Match
	service, method int // of gRPC: how long they are
}

// BackendRef is a backend as it is written.
type BackendRef struct {
	Ref
	Weight            uint32
	Request, Response mesh.Fields
}

// Mirror is a mirror as it is written.
type Mirror struct {
	Ref
	PerMillion uint32 // of the requests
}

// Ref names a service.
type Ref struct {
	Kind    string // "Service", "ServiceImport", or "group/Kind" of what is none
	Service mesh.ServiceName
	Port    uint16 // 0: none
}

// String is how errors name what r refers to.
func (r Ref) String() string {
	if r.Port == 0 {
		return r.Kind + " " + r.Service.String()
	}
	return fmt.Sprintf("%s %s port %d", r.Kind, r.Service, r.Port)
}

// The kinds that a Ref may be of.
const (
	kindService = "Service"
	kindImport  = "ServiceImport"
)

// Grant lets routes of another namespace name services of its own (ReferenceGrant).
type Grant struct {
	Namespace string // whose services
	Kind      Kind   // of the routes
	From      string // the namespace of the routes
	To        string // Service or ServiceImport
	Name      string // of the service; empty: all of them
}

// Set is everything that is written of one cluster.
type Set struct {
	Routes []Route
	Grants []Grant
}

// everyPath is what a match has that asks for no path.
var everyPath = mesh.PathMatch{Kind: mesh.Prefix, Value: "/"}

// GRPCMatch is the match of a gRPC method: of service and method, each of which may be empty
// for any.
func GRPCMatch(kind mesh.MatchKind, service, method string, headers []mesh.ValueMatch) Match {
	m := Match{Match: mesh.Match{GRPC: true, Headers: headers}, service: len(service), method: len(method)}
	const any = "[^/]+"
	switch {
	case service == "" && method == "":
		m.Path = everyPath
	case kind == mesh.Exact && service != "" && method != "":
		m.Path = mesh.PathMatch{Kind: mesh.Exact, Value: "/" + service + "/" + method}
	case kind == mesh.Exact && service != "":
		m.Path = mesh.PathMatch{Kind: mesh.Prefix, Value: "/" + service}
	case kind == mesh.Exact:
		m.Path = mesh.PathMatch{Kind: mesh.Regex, Value: "/" + any + "/" + strings.ReplaceAll(method, ".", `\.`)}
	default:
		if service == "" {
			service = any
		}
		if method == "" {
			method = any
		}
		m.Path = mesh.PathMatch{Kind: mesh.Regex, Value: "/(?:" + service + ")/(?:" + method + ")"}
	}
	return m
}
