// Package gatewaylink is a sidecar's way to each gateway of its cluster: one mutual
// TLS connection that the ADS stream and the registration share, and how things
// stand with that gateway. The other end must be a gateway of the sidecar's own
// cluster.
//
//	sidecar/adsclient ────┐
//	                      ├─ Converse ─▶ Link ── gRPC over mutual TLS ──▶ a gateway's xDS port
//	sidecar/registration ─┘
//
// Liveness: a gateway pings when it has heard nothing for a second, so silence of
// 2.5 s means one that is dead or frozen, whatever its kernel acknowledges, and
// ends the connection; see internal/liveness. One that is alive may be slow to shake
// hands, when all its sidecars come at once: after 2.5 s another gateway is tried, and
// the connection keeps its place in the queue meanwhile.
//
// [Follow] decides when a stream is tried again, and where: gRPC's own backoff is not
// used.
package gatewaylink
