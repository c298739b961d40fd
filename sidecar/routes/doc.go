// Package routes holds what a sidecar may dial: an immutable [Table] of
// routes by destination, behind a [Store] that replaces it whole.
//
// The xDS client writes the store, and it is the only place where a change of
// routes begins: [Store.Replace] has the upstreams follow and then publishes the
// table. Listeners read it. A reader never waits,
// except for the first connection to a destination that no table has yet:
// [Store.Wait] subscribes to that one name and returns when its route or its
// absence arrives.
//
//	xds client ──Replace──▶ Store ──apply──▶ upstream.Set.Update
//	     ▲                    │ └────Load───▶ listeners
//	     └────── subscribe ───┘  (on demand, one name)
package routes
