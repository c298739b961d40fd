// Package registration keeps every gateway of a sidecar's cluster told of a port
// that is served beside the sidecar: one stream to each over its [gatewaylink.Link], opened
// again for ever. Several ports are several streams, so that one that a gateway
// refuses takes no other with it. The protocol is that of internal/register: the stream is the lease.
package registration
