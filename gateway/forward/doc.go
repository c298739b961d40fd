// Package forward is the gateway's data plane: it opens paths. A path joins a
// client to one instance of a service, in this cluster or through a tunnel to
// another, and carries a TLS connection that the gateway cannot read.
//
// A path is asked for in one of four ways:
//
//	mesh port, first byte 'C'    CONNECT orders.shop.mesh:80 HTTP/1.1, payload may follow at once
//	mesh port, first byte 0x16   a TLS ClientHello whose SNI names the service: _80.orders.shop.mesh,
//	                             or orders.shop.mesh for its first port
//	tunnel stream                CONNECT, as on the mesh port, from the near gateway
//	[Forward.Enter]              by the entrance of this process, which speaks TLS for its callers
//
// Its heads and refusals are those of [connect]. A client that came by SNI knows
// no HTTP and gets a TLS alert instead of a refusal.
//
// # Nobody's open proxy
//
// The mesh port asks for no certificate, so it carries nothing but TLS: a path
// whose payload does not begin with a ClientHello is refused, and who may call
// is decided where the TLS ends. That is the sidecar, or, for an endpoint
// without an identity, this gateway: it ends the TLS under the service's name
// and dials in the clear, for whom the service's policies allow. It sees no requests:
// rules about those do not allow, and deny. Paths are bounded per source address and in total,
// heads in size and time. Who proves nothing has a path for as long as a handshake may take;
// when there is no room for more paths, those of the address with most of these end first.
//
// # Attempts
//
// Who serves is an ordered list of candidates, chosen by functions handed in.
// The first is tried; the next one when it refuses, or beside it when it has
// not answered within max(3 × RTT, 200 ms). The first success wins, the others
// are reset. Until then the client's payload is kept (64 KiB, then the client
// waits), so that every attempt gets all of it. The far side dials on the head
// alone, so a client may also wait for the 200 before it sends a byte.
//
// # Goodbyes
//
// A client that keeps paths for reuse asks to be told before one ends
// ([connect.AppendGoodbye]). All such paths are told when a drain begins
// ([Forward.Shutdown]), and those to an endpoint that may not serve any more
// ([Forward.Retire]): clients close what is idle and finish what runs, so that a
// drain lasts as long as that.
package forward
