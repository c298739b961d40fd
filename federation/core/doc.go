// Package core decides what a gateway does in the mesh of gateways, and does
// nothing itself: it has no clock, no I/O and no goroutine, and draws no random
// numbers but from the source that it was handed.
//
//	Gossip, Tunnels, Synced, Received, … ──Apply──▶ Core ──Step──▶ Actions: pull, sync, dial, show, save, …
//
// What happened goes in by [Core.Apply] as an [Input]; the results of actions are
// inputs too. [Core.Step] says what follows from all of that at this moment. It is
// asked whenever something was applied and once a second, because time alone makes
// gateways forgotten and retries due. Package federation is the driver: it holds
// one lock around the core and carries the actions out.
//
// What is decided here and nowhere else: which catalog is believed (conflict resolution,
// see package catalog, and the floor below which nothing comes back), whom to pull
// it from and when again, whom to ask for versions, where to keep tunnels to, who
// has died, who has left, what is forgotten, and what a [View] shows.
//
// A catalog comes in by [Received] verified: its signature and the identities in it
// are the driver's to check.
package core
