// Package gateway assembles a cluster's gateway. [Gateway] knows all the parts
// and reads as their start order; what they decide is in two pure files:
//
//	router.go  who may serve a path, best first (data plane)
//	routes.go  what sidecars may dial (control plane)
//
// Both are computed from the same two inputs, the services of this cluster and
// the federation's view of the others, whenever one of them changes.
package gateway
