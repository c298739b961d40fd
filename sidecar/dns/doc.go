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
// records of the asked type is an empty answer. So is a name above services
// (shop.mesh), if this sidecar has ever found one of them: NXDOMAIN says that
// nothing is below it either (RFC 8020), and the control plane knows only services.
// Negative answers carry an SOA, so that nobody keeps them for longer than 5 s.
//
// Ndots and the search list are the program's business: "orders" with the search
// domain shop.mesh is asked as orders.shop.mesh. A mesh name with a search domain of
// resolv.conf behind it (orders.shop.mesh.corp.example) is what the program's resolver makes of
// a mesh name on its way; it is NXDOMAIN and not told to anybody outside.
// mesh.corp.example and one label more may be real and are forwarded. A search domain
// that the sidecar's resolv.conf does not name, because the program has a resolv.conf
// of its own or LOCALDOMAIN, is not known: then such names are forwarded.
//
// # Names of Kubernetes
//
// In a pod orders.shop.svc.cluster.local, which is what programs ask for that call http://orders.shop,
// is the service in the own cluster, orders.shop.west.mesh, if a gateway says that it is
// reached by the mesh: all its ports are the mesh's, and its endpoints have sidecars. Where services have
// their names the search list of resolv.conf says (svc.DOMAIN). Every other name there is forwarded
// as it is: names of pods, services without sidecars or with ports of UDP, ExternalNames,
// and what search lists make of other names. What is none of the mesh is known for ten minutes;
// without a gateway it is forwarded after 0.8 s, and the next question for it at once.
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
// A question that cannot be read, and two in one message (RFC 9619), are a FORMERR.
// What a question outside of the mesh says else (its EDNS options, cookies, case, an odd
// opcode) is not looked at: the bytes go to the server that the program asked over the
// same transport and its bytes come back, truncation included. They must repeat the
// question, not only its ID, and over UDP come from that server; else they are
// ignored and the wait goes on (RFC 5452).
//
// When interception does not know which server was asked, it is one of resolv.conf (see
// [ResolvConf]). These are equals, as they are to the program: over UDP a silent one
// is hedged by the next (at once, when it was silent before), over TCP one that does not
// take the connection. A server that resolv.conf does not name has no substitute.
//
// One answer is changed: where a CNAME of another zone ends in a service of the mesh,
// which nobody outside can know, the addresses are added.
package dns
