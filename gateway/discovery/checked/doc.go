// Package checked adds to the services of another source which of their
// endpoints answer, by asking them again and again.
//
// One goroutine, that of [Source.Run], owns all state; one goroutine per
// endpoint checks and sends it what has changed. An endpoint that stays in the
// set keeps its state when others come and go. A set with new endpoints is held
// back until they have been checked once, so that a change of addresses in a
// file is no outage.
package checked
