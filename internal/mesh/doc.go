// Package mesh is the vocabulary of Isthmus: the nouns that every other
// package speaks, and nothing else. It imports only the standard library.
//
// Three nouns describe the same service, each narrower than the one before:
//
//   - a [Service] has endpoints and never leaves its cluster;
//   - an [Export] is what other clusters are told of it: ports, how many
//     instances are ready, and which identities may answer;
//   - a [Route] is what one sidecar may dial, where every other cluster
//     together appears as the local gateways.
//
// Data flows in one direction:
//
//	discovery ──Service──▶ gateway ──Export──▶ federation ──Export──▶ other gateways
//	                          └─────Route──▶ xDS ──Route──▶ sidecar
//
// Values of these types are published whole and never change afterwards:
// who receives one may keep it and must not write to it.
package mesh
