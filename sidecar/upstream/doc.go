// Package upstream gets a request or a TCP connection to an instance of a
// service: it knows a service's hosts, chooses one, connects to it, keeps idle
// connections, notices hosts that fail, and limits retries.
//
// A [Set] has one [Service] for each route. A service's hosts stand in two
// tiers: priority 0 are the endpoints of the sidecar's own cluster, priority 1
// its gateways, which stand for every other cluster together.
//
// # One request
//
//	var attempts upstream.Attempts
//	attempts.Begin(service, upstream.DefaultRetries(), time.Now())
//	for {
//		lease, err := attempts.Next(ctx, nil)
//		if err != nil {
//			// nobody (left) to ask: 503
//		}
//		// … write the request, read the answer …
//		lease.Done(outcome, elapsed)
//		lease.Return() // or lease.Close()
//		// a request that broke may be tried again: attempts.MayRetry
//	}
//
// A retry is decided in attempts.go, for HTTP and TCP alike. Next with a pooled
// connection, Done and Return allocate nothing and wait for nothing but short
// critical sections. Next with a new connection dials on the caller's goroutine.
//
// # The wire
//
// To a local endpoint: TCP, then TLS 1.3 under the service's name, then the
// payload. To a plain local endpoint the payload at once. Through a gateway the
// ClientHello follows the CONNECT head in the same segment, so the path costs no
// round trip of its own:
//
//	sidecar ▶ gateway  CONNECT orders.shop.mesh:80 HTTP/1.1␍␊
//	                   Host: orders.shop.mesh:80␍␊
//	                   Isthmus-Exclude: east, west/orders-2␍␊
//	                   Isthmus-Held: west/orders-3␍␊
//	                   Isthmus-Goodbye: 1␍␊
//	                   ␍␊
//	                   <TLS ClientHello>
//	sidecar ◀ gateway  HTTP/1.1 200 OK␍␊
//	                   Isthmus-Cluster: west␍␊
//	                   Isthmus-Instance: orders-1␍␊
//	                   Isthmus-Weight: 1␍␊
//	                   ␍␊
//	                   <TLS ServerHello> …
//
// Any other status is a refusal and becomes a [connect.Refusal] inside a
// [ConnectError], with what Proxy-Status (RFC 9209) says.
//
// # Connections that are shared
//
// To an endpoint of our own cluster TLS offers HTTP/2, and to a program that is known to
// speak it none is needed: then an attempt runs on a stream (sharing.go). A host has few such
// connections; the next is opened when all have 100 streams or have been a limit for a
// while, once for all who wait. One whose route, certificates or trust are past takes no new
// streams and ends with those that run. Where HTTP/2 is not negotiated each attempt has a
// connection, or behind gateways a path.
//
// # Behind a gateway
//
// Many instances may be behind one gateway, and a path leads to one of them. The
// pool knows which, and with which weight, and spreads requests over the instances
// that it has paths to (instances.go). Paths are opened ahead (ahead.go): while a
// gateway is in use it is asked every 5 s or so, in the background and with the
// names of those that we hold, for somebody else, until it has nobody else to
// offer; each answer to one that we hold takes the place of an older path, with
// what is its weight now. So a caller of one request after the other uses all far
// instances (of many, some at a time), a new one gets its share within seconds, and
// no request waits for a handshake while there is a warm path. Under load an
// instance that has too few paths gets more, and a request that finds none waits while one
// is expected sooner than a new one would be open (patience.go); while
// requests wait without a break one more after the other is opened. TCP, which has a path to itself, leaves
// the choice to the gateways.
//
// A few requests share a path when there are no more, each a stream of HTTP/2 (paths.go): whose
// turn it is stays a question of requests, not of paths. TCP and upgrades have one to themselves.
//
// A path on which a gateway says goodbye is not used again, and closed once idle: an
// idle path that has anything to read is never given out, and the pool looks at the
// idle ones four times a second.
//
// # Who is to blame
//
// A host that cannot be connected to is ejected for a while (1 s, doubling to
// 30 s), then one request probes it. What goes wrong behind a gateway is blamed
// on the instance that the gateway named, and later paths exclude it.
// Ejection is this sidecar's guess: when nobody else is left, ejected hosts are
// asked again rather than nobody.
package upstream
