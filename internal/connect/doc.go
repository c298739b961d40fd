// Package connect is the CONNECT that opens a path between processes of the
// mesh: a sidecar or any other client to its gateway, and a gateway to the next.
// Both ends are here, the writer and the reader of each message.
//
//	client ▶ gateway  CONNECT orders.shop.mesh:80 HTTP/1.1
//	                  Host: orders.shop.mesh:80
//	                  Isthmus-Exclude: east, west/orders-2   clusters, or cluster/instance, that shall not serve
//	                  Via: 1.1 east.east-1                   gateways passed, the first one first
//
//	                  <payload: TLS>                         may follow at once, in the same segment
//
//	client ◀ gateway  HTTP/1.1 200 OK                        any 2xx; 1xx heads may come before
//	                  Isthmus-Cluster: west                  which cluster serves
//	                  Isthmus-Instance: orders-1             which instance
//
//	                  <payload: TLS>
//
//	client ◀ gateway  HTTP/1.1 503 Service Unavailable       any other status
//	                  Proxy-Status: isthmus-west-1; error=destination_unavailable; details="no ready endpoint"
//
// A refusal follows RFC 9209: each proxy on the response's way appends a member
// to Proxy-Status, so the first member with an error is of whoever is nearest
// to the destination and knows best. [Refusal] is what is read from it and what
// it is written from.
//
// Everything read is bounded (a head by 16 KiB), and what is read and would be
// written into a header again is checked. Deadlines are the caller's. Values
// are not safe for concurrent use while they are changed; nothing here keeps
// what it was given.
package connect
