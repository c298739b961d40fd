// Package dns is the resolver that the program beside a sidecar asks, whether it
// knows of it or not: interception sends the program's port 53 here.
//
//	program ──question──▶ Server ──┬── a mesh name ──▶ Ports (asks a gateway on demand) ──▶ Table ──▶ answer
//	                               └── anything else ──▶ the server that the program asked, byte for byte
//
// # Mesh names
//
// These are answered here and never leave the machine; answers hold for 5 s:
//
//	orders.shop.mesh                     A, AAAA   the service's virtual address
//	orders.shop.west.mesh                A, AAAA   another one: only in cluster west
//	orders.shop.svc.clusterset.local     A, AAAA   the same as the first (KEP-1645)
//	orders.shop.mesh                     SRV       every port of the service
//	_http._tcp.orders.shop.mesh          SRV       its ports that speak http (or tcp)
//	_80._tcp.orders.shop.mesh            SRV       its port 80
//	52.18.66.240.in-addr.arpa            PTR       the name behind a virtual address
//
// A name that the control plane calls absent is NXDOMAIN. When no gateway answers
// within 5 s it is SERVFAIL: unknown is not absent. A name that exists without
// records of the asked type is an empty answer, and so are the names above the
// services (shop.mesh). Negative answers carry an SOA, so that nobody keeps them
// for longer than 5 s.
//
// The server knows nothing of search lists and ndots, which are the program's
// business: orders.shop.mesh.example.com is not a mesh name and is forwarded, and
// "orders" with the search domain shop.mesh is asked as orders.shop.mesh.
//
// # Virtual addresses
//
// Every mesh name has an address pair of its own for good (see [Table]):
//
//	240.66.A.B              A.B: a slot of 16 bits, from a hash of the name
//	fd69:7374:6d75::AABB    the same slot
//
// 240.0.0.0/4 is reserved, and nobody's: a connection to it that is not captured
// goes nowhere. Nothing listens there; the sidecar asks [Table.Name] what the program
// meant when it connects to one.
//
// # Everything else
//
// What a question outside of the mesh says (its EDNS options, cookies, case, an odd
// opcode) is not looked at: the bytes go to the server that the program asked over the
// same transport and its bytes come back, truncation included. When interception does
// not know it, it is a server of resolv.conf. These are equals, as they are to
// the program: over UDP a silent one is hedged by the next, over TCP one that does not
// take the connection. A server that resolv.conf does not name has no substitute.
// A resolv.conf that changes counts from the next question on (see [ResolvConf]).
package dns
