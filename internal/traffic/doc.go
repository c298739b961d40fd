// Package traffic says where requests go: it makes the rules of a destination of the routes
// that are written for it, and decides by these about one request. It is pure.
//
// A [Route] is what an HTTPRoute or a GRPCRoute says whose parents are services (Gateway API,
// GEP-1426); its kind, apiVersion and spelling are the reader's business. [Bind] attaches
// all routes of a cluster to their parents and gives each destination its [mesh.Rule] list, in
// the order in which they count, and each route its conditions. The gateway sends the rules to
// the sidecars that ask for the destination; there [Compile] makes [Rules] of them once, and
// [Rules.Match] decides without I/O, clock or allocation.
//
//	[]Route ──Bind──▶ []mesh.Rule ──xDS──▶ []mesh.Rule ──Compile──▶ Rules ──Match──▶ Rule
//
// # Which routes hold for whom
//
// A parent of kind Service is the service as the own cluster has it: orders.shop.east.mesh,
// and svc.cluster.local in Kubernetes. A ServiceImport is the service of all clusters:
// orders.shop.mesh, svc.clusterset.local. It is the same with backends. What a route does with
// requests to one has no effect on the other, nor on requests that reach the service as the
// backend of a route.
//
// Routes in the parent's namespace hold for all callers. Those of another namespace hold for
// the callers of that namespace only, for whom they stand in place of the former.
//
// A producer of namespace A must not send callers to a service of namespace B: they would call
// B under their own name, with what A writes. That takes a ReferenceGrant of B. A consumer's
// route changes requests of its own namespace only, which may go there anyway.
//
// # Which rule counts
//
// Every match of every rule is one rule of the destination. They are sorted by how much they
// ask for, as the specification says: the path exact, then by regular expression, then by
// prefix, longest first; a method; the number of header fields, then of query parameters (of
// gRPC: the length of the service, of the method, the number of header fields); then the older
// route, then by namespace/name; then as they are written. Where routes of both kinds are attached
// to a port, only the GRPCRoutes count.
package traffic
