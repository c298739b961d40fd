// Package gateway assembles a cluster's gateway. [Gateway] knows all the parts
// and reads as their start order; what they decide is in pure files:
//
//	router.go    who may serve a path, best first (data plane)
//	routes.go    what sidecars may dial (control plane)
//	departed.go  what nobody offers any more, but somebody did lately
//
// They are computed from the same two inputs, the services of this cluster and
// the federation's view of the others, whenever one of them changes.
package gateway
