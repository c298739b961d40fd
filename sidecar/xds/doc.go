// Package xds is the sidecar's side of the control plane: one client that keeps
// the sidecar told what it may dial and its gateways told that it is there.
//
//	            ┌─ ADS stream (delta) ── one gateway at a time, the next one at once when it fails
//	Client.Run ─┤
//	            └─ registration stream ── every gateway, again for ever
//
// Both share one mutual TLS connection per gateway; the other end must be a
// gateway of the sidecar's own cluster.
//
// On demand: [Client.Subscribe] asks for one destination. The answer is a route or
// an explicit "absent"; either is handed on at once by Config.Apply, together with
// everything else, as a whole and consistent state.
//
// Unknown is not empty: what was last accepted is on disk, is applied before the
// first connection is made, and stays in force for as long as no gateway answers.
// After a reconnect the client says which versions it holds (versions are hashes
// of content, the same at every gateway), so only what changed is sent.
//
// Liveness: a gateway pings when it has heard nothing for a second, so silence of
// 2.5 s means one that is dead or frozen, whatever its kernel acknowledges, and
// ends the connection; see internal/liveness.
package xds
