// Package discovery says which services a cluster offers. Each technology has a
// package of its own below this one; all of them give whole sets, never events:
//
//	file ──Described──▶ checked ──Service──┐
//	                                       ├──▶ Merge ──Service──▶ gateway
//	registry ────────────────Service───────┘
//
// The gateway has a list of them (gateway.go, wire) and runs what Merge gives,
// which runs them.
//
// A source that does not know its set yet (its files are not read, its first
// checks are not done) says nil, which is not the same as an empty set: a
// gateway that has just started must not tell the mesh that its cluster has
// nothing.
package discovery
