// Package xds is the gateway's control plane: it tells every sidecar of its
// cluster what that sidecar may dial, and nothing else.
//
// [Server.SetRoutes] takes the whole set of routes. Each route becomes two shared,
// once-encoded resources (a Cluster and a ClusterLoadAssignment, see
// internal/xds) whose version is a hash of their content, so that another
// gateway, or this one after a restart, gives the same content the same version
// and a reconnecting sidecar is sent only what changed while it was away.
//
//	SetRoutes ─▶ routes ─(first at once, then every 50 ms)─▶ table ─▶ index: name ─▶ watches
//	                                                                          │
//	sidecar ◀── delta ADS over mTLS ── adsStream ◀────────────────────────────┘
//
// The protocol engine is go-control-plane's; the cache behind it is ours, because
// what "*" means depends on who asks, which that engine's caches do not know, and
// because absence has to be said. A changed name finds its subscribers in an index,
// so that work is proportional to who is told.
//
// What a name means to a subscriber:
//
//   - it asked for a name that exists: the resource, again whenever it changes,
//     and again whenever it asks again;
//   - it asked for a name that does not exist: removed_resources names it at
//     once, exactly once ("explicit absence"), and the resource follows if it
//     appears later;
//   - it asked for "*" (Envoy's empty first request): what its identity has asked
//     for by name before, which the server remembers (scopeMemory);
//   - it asked for a type that we do not know: nothing of it exists.
//
// While not everything is known (SetRoutes) nothing is said to be absent.
//
// Who may call a service ([Server.SetPolicies]) is a resource of a type of ours. Only
// the service accounts that serve the service are told of it, and its absence is never
// said: a sidecar keeps the last one that it was told.
//
// A client that cannot use one resource refuses (NACK) the whole response in which it
// came. What it refused is sent again in parts, until only the bad one stays out
// (doubts). Endpoints that have host names go as they are to clients that take them;
// for others the gateway resolves the names (hosts).
//
// The identity is that of the mutual TLS connection; the node that a request
// claims is used for nothing but logs. A connection ends when its certificate
// expires or its root is trusted no more.
//
// Liveness: the server pings a connection on which it has heard nothing for a
// second and drops one that stays silent for 2.5 s (internal/liveness). That frees
// what a frozen sidecar holds, its registration (internal/register) above all, and
// the pings are what a sidecar listens for to notice a frozen gateway as fast.
package xds
