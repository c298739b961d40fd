// Package beside is the protocol by which the sidecar of a pod learns what it serves: one
// gRPC stream to a gateway of its cluster, on the gateway's xDS port, inside the same
// mutual TLS.
//
//	sidecar                                         gateway
//	  │── Place{10.42.0.7} ───────────────────────────▶│
//	  │◀────── Ports{shop/orders 80 http 10.42.0.7:8080}│
//	  │                                                │ another Service selects the pod
//	  │◀────── Ports{shop/orders 80 …, shop/admin 81 …}│
//
// The gateway knows from Kubernetes which endpoints there are. It tells a sidecar of those
// that have its identity, which the connection proves, and one of its addresses, which it
// says: another address of the same identity would tell it of a fellow's ports, and no more.
//
// The code here is generated from beside.proto by scripts/generate.
package beside

// MaxPorts bounds the ports that a sidecar is told of, and MaxAddresses the addresses that it
// says.
const (
	MaxPorts     = 256
	MaxAddresses = 32
)
