// Package workloadapi is the origin of identities that an agent of this host gives by the
// SPIFFE Workload API, such as SPIRE's: who this process is, its key, and the roots of its
// trust domain. The agent knows this process by its socket, so that nothing is
// configured but the socket's path, and pushes what is new.
//
// The SPIFFE ID must be one of the mesh, see package identity: a registration entry of
// SPIRE names it as a whole.
//
//	spiffe://<trust domain>/cluster/<cluster>/gateway/<name>
//	spiffe://<trust domain>/cluster/<cluster>/ns/<namespace>/sa/<account>
//
// SPIRE's authorities name a trust domain and no cluster: what they sign is believed for
// every cluster of it, and knows no founding. Its federated bundles are not used.
package workloadapi
