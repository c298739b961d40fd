// Package register is the protocol by which a sidecar announces the service
// beside it to the gateways of its cluster: one gRPC stream per gateway, on the
// gateway's xDS port, inside the same mutual TLS.
//
//	sidecar                                   gateway
//	  │── Registration{shop/orders 80 …} ───────▶│  endpoint of this cluster
//	  │◀────────────── Ack{10.0.0.7:15008} ──────│
//	  │── Registration{… ready: false} ─────────▶│  replaces the first
//	  │◀────────────── Ack ──────────────────────│
//	  │       (HTTP/2 PING every second)         │
//	  │── half-close ───────────────────────────▶│  withdrawn
//	  │◀────────────── status OK ────────────────│
//
// The stream is the lease: when it ends, for whatever reason, the endpoint is
// gone. The gateway pings every connection once a second, so a sidecar whose
// process is frozen loses its registration as surely as one that was killed.
//
// The code here is generated from register.proto by scripts/generate.
package register
