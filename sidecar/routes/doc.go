// Package routes holds what a sidecar may dial: an immutable [Table] of
// routes by destination, behind a [Store] that replaces it whole.
//
// The xDS client writes the store; listeners read it. A reader never waits,
// except for the first connection to a destination that no table has yet:
// [Store.Wait] subscribes to that one name and returns when its route or its
// absence arrives.
//
//	xds client ──Replace──▶ Store ──Load──▶ listeners, upstream.Set
//	     ▲                    │
//	     └────── subscribe ───┘  (on demand, one name)
package routes
