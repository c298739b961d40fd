// Package trust is the protocol by which bundles (package identity) reach sidecars:
// one gRPC stream to every gateway of the cluster, on its xDS port, inside the
// same mutual TLS.
//
//	sidecar                                        gateway
//	  │── Holding{mesh.example 3, root sha256:…} ─────▶│
//	  │◀──────────────────────────── Bundles{} ────────│  nothing newer
//	  │◀──────────────────────────── Bundles{4} ───────│  somebody was revoked
//	  │── Holding{mesh.example 4, …} ─────────────────▶│  who lacks it is known
//
// A gateway is believed nothing: a sidecar takes a bundle because a root signed it.
//
// The code here is generated from trust.proto by scripts/generate.
package trust
