// Package imports shows a Kubernetes cluster what the mesh offers: for each service that
// some cluster exports, the own one included, a ServiceImport of the Multi-Cluster Services
// API (KEP-1645) in the service's namespace, where that exists.
//
//	federation's view, own services ──Offers──▶ Join ──▶ ServiceImport   what it is, by the words of all exporters, and its ports of the entrance
//	                                                     └ Service       "derived-…": an address, and for each port one of the entrance
//	                                                     └ EndpointSlices  the gateways that listen there
//
// All of it is pure ([Join], plan) but for [Imports], which follows the API server and
// writes the difference. One gateway of the cluster writes; every gateway reads the
// ServiceImports, and so knows on which port of its entrance which service is called: the
// allocation is nowhere else, and survives who made it. Namespaces' users write Services,
// and look-alikes of derived ones, but no ServiceImports: the allocation is one for all namespaces.
//
// # The derived Service
//
// It has no selector. kube-proxy brings a program without a sidecar from the Service's
// address to a gateway's entrance ([entrance]). Headless imports have one, too: no
// gateway's address can stand for a service on the service's own port, so the
// EndpointSlices of a headless import name the derived Service's address.
//
// # Conflict resolution
//
// Exporters may differ. The ServiceExport that was created first counts, as the API proposes;
// then clusters that export without one, the cluster founded first before the others. Of
// ports the union is taken; one that has the name of another port, or its number under
// another name, is left out. Every exporter of a service about which they differ has the
// condition Conflict on its ServiceExport, which its own gateways write. What the
// mesh routes by follows none of this: that is decided in package gateway.
//
// # What is removed
//
// Objects that carry our label and are not wanted any more, but only while this gateway
// knows all that there is: unknown is not empty. ServiceImports without the label
// are somebody else's, and left alone.
package imports
