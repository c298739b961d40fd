// Package connect is the CONNECT that opens a path between processes of the
// mesh: a sidecar or any other client to its gateway, and a gateway to the next.
// Both ends are here, the writer and the reader of each message.
//
//	client ▶ gateway  CONNECT orders.shop.mesh:80 HTTP/1.1
//	                  Host: orders.shop.mesh:80
//	                  Isthmus-Exclude: east, west/orders-2   clusters, or cluster/instance, that shall not serve
//	                  Isthmus-Held: west/orders-1            paths to them exist: rather somebody else
//	                  Isthmus-Goodbye: 1                     the client understands a goodbye
//	                  Via: 1.1 east.east-1                   gateways passed, the first one first
//
//	                  <payload: TLS>                         may follow at once, in the same segment
//
//	client ◀ gateway  HTTP/1.1 200 OK                        any 2xx; 1xx heads may come before
//	                  Isthmus-Cluster: west                  which cluster serves
//	                  Isthmus-Instance: orders-1             which instance
//	                  Isthmus-Weight: 3                      its weight in its cluster
//
//	                  <payload: TLS>
//
//	client ◀ gateway  f1 03 03 00 00                         between two TLS records, any time after: a goodbye
//
//	client ◀ gateway  HTTP/1.1 503 Service Unavailable       any other status
//	                  Proxy-Status: isthmus-west-1; error=destination_unavailable; details="no ready endpoint"
//	                  Cache-Control: no-store
//
// A refusal follows RFC 9209: each proxy on the response's way appends a member
// to Proxy-Status, so the first member with an error is of whoever is nearest
// to the destination and knows best. [Refusal] is what is read from it and what
// it is written from.
//
// A gateway that drains, or whose endpoint goes away, says goodbye on each path to
// whom asked for it: the path carries what runs on it to its end, and a client that
// keeps paths for reuse begins nothing new on it and closes it. A goodbye looks like
// an empty TLS record of a type that TLS does not have; it is written between two
// records and the client takes it out before its TLS reads ([Records]). So it needs
// no other channel, reaches exactly the paths that end, and may cross a request,
// which is still carried. What is between passes it on as it passes TLS.
//
// Everything read is bounded (a head by 16 KiB), and what is read and would be
// written into a header again is checked. Deadlines are the caller's. Values
// are not safe for concurrent use while they are changed; nothing here keeps
// what it was given.
package connect
