// Package adsclient has a sidecar told what it may dial: one delta ADS stream, to one
// gateway at a time over its [gatewaylink.Link], and to the next one at once when it
// fails.
//
// On demand: [Client.Subscribe] asks for one destination. The answer is a route or
// an explicit "absent"; either is handed on at once by Config.Apply, together with
// everything else, as a whole and consistent state.
//
// Unknown is not empty: what was last accepted is on disk, is applied before the
// first connection is made, and stays in force for as long as no gateway answers.
// After a reconnect the client says which versions it has (versions are hashes
// of content, the same at every gateway), so only what changed is sent.
package adsclient
