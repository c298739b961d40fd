// Package xds translates between [mesh.Route] and Envoy's resources, and between
// [policy.Set] and one of ours. It is the only
// place that spells them, and it is pure: bytes are the same wherever and whenever
// they are made, so that a hash of them serves as the version.
//
// A route is two resources, both named by its destination ("orders.shop.mesh:80"):
//
//	Cluster (CDS)                                   ClusterLoadAssignment (EDS)
//	  eds_config: ads                                 priority 0: the own cluster's endpoints
//	  SNI _80.orders.shop.mesh, ALPN http/1.1 or none priority 1: the own cluster's gateways
//	  SAN matchers: the SPIFFE IDs that may answer    health_status, load_balancing_weight
//	  panic threshold 0                               metadata "isthmus": instance, identity,
//	  metadata "isthmus": protocol                      via=gateway
//	  transport socket match: plain endpoints raw     metadata "envoy.transport_socket_match"
//
// A real Envoy uses them as they are. It brings its own certificate and roots as the
// static secrets "isthmus/identity" and "isthmus/roots", and reaches other clusters
// by the SNI that its ClientHello shows to a gateway's mesh port, which has the port
// as well. Envoy wants IP addresses in EDS: whoever does not say that it takes host
// names ([TakesHostNames]) must be given those.
//
// Who may call a service is a resource of a type of our own ([PolicyType]), named by the
// service, for the sidecars that serve it; an Envoy never asks for it.
package xds
