// Package registration keeps every gateway of a sidecar's cluster told of the
// service beside the sidecar: one stream to each over its [gatewaylink.Link], opened
// again for ever. The protocol is that of internal/register: the stream is the lease.
package registration
