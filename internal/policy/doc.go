// Package policy decides who may call a service. It is pure: a [Set] is what is in
// force for one service, [Compile] makes an [Authorizer] of it once, and that decides
// without I/O, clock or allocation.
//
// In this order, the first that applies decides:
//
//  1. Only workloads call: gateways and certificate authorities are nobody's callers. But
//     where a gateway ends the TLS of an endpoint without a sidecar, gateways may call it for
//     who has none either.
//  2. A port that is not exported is called from the service's own cluster only.
//  3. A deny rule that matches refuses.
//  4. Where the service has allow policies, one of their rules must match.
//  5. Where it has none, the strict default is in force: callers of the service's own
//     namespace, in every cluster whose certificate may speak for that namespace. The
//     service's own cluster may.
//
// A caller without an identity, whom a permissive sidecar serves, is of no namespace and
// no cluster: 1 and 2 do not concern it, and 4 lets it in by a rule that names
// "anonymous" only. Deny rules about everybody are about it, too.
//
// A gateway that calls for who has no sidecar is of no namespace: 4 lets it in by a rule
// that names gateways only, and 5 only where the service has no policy at all and its
// cluster has an entrance for such callers.
//
// Policies with DryRun decide nothing; what they would change stands beside every
// decision.
//
// # Where readers differ, allow is narrow and deny is wide
//
// A segment that a caller pattern leaves out stands in an allow rule for the own trust
// domain, for the clusters whose certificate may speak for the caller's namespace, and
// for the own namespace; in a deny rule for every one. Methods, paths and header values
// are compared as they are written by allow, and in either case by deny, which takes a field
// X_A for x-a, as programs behind CGI and its like do. A condition
// that cannot be judged (of the request, where only its connection is known; of a path
// that has no normal form) does not allow, and denies.
//
// # Paths
//
// Programs disagree about "//", "/./", "%2e", "%2F" and the like, so that a rule about
// paths is only as good as the form in which they are compared. [AppendPath] brings a
// path to its one normal form (RFC 3986 §6.2.2) or says that it has none; what is
// judged should also be what the program is given.
package policy
