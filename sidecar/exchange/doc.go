// Package exchange is the HTTP core of the sidecar: it carries requests from a
// client's connection to a host of their service, and the answers back. It knows
// nothing of listeners, of TLS and of how a protocol is told; package proxy does.
//
// One request, in order:
//
//	Server.Serve              a client connection
//	session.readHead          the request's head, by package http1
//	session.serveRequest      where it goes
//	exchange.run              attempts, until one has an answer or none is left:
//	  upstream.Attempts.Next    a lease: a connection to a host
//	  exchange.try              one attempt
//	    send, upload.start        the head, and the body as it comes
//	    receive                   the answer's head
//	    passAnswer, download.run  the answer, to the client
//	exchange.complete         the lease goes back, the next request may come
//
// A request is a head and a body stream (upload.go), an answer a head and another
// (download.go), and what an attempt runs on a lease. All of it is one goroutine
// per client connection; a request whose body has not arrived in whole gets a second
// one for the upload while it lasts, so that an early answer is seen and neither
// side's backpressure can stop the other direction.
//
// # Outcomes
//
// An attempt has one outcome, and each has a verb that decides on it:
//
//	completed  complete       the answer is with the client
//	retried    retry          another attempt follows
//	replied    reply          there is no answer to pass on: the mesh answers itself
//	aborted    abort          the client left, or the answer broke off
//
// and an upgraded connection ends with the relay that it became.
//
// # Retries
//
// retry.go says when an attempt may be retried; [upstream.Attempts] says whether
// there is one left:
//
//	reached nobody    connect refused, CONNECT refused,         always the next host
//	                  handshake failed, nothing was written
//	may have reached  the connection died before the first      once, in the same
//	somebody          byte of an answer, or the far sidecar     cluster, if the method is
//	                  got none from its program                 idempotent and the budget
//	                                                            grants it
//	the host is gone  it went out of service while we waited,   the next host, under the
//	                  or the gateway of the path did            same two conditions
//	answered          any byte went down to the client, or      never
//	                  what came is no HTTP answer
//
// In the same cluster is as far as anybody can be reached there: a cluster that is gone
// is left. What a far sidecar says of its program counts only of one that has proved to
// be a workload of the mesh.
//
// In either case what was sent of the body must still be in the buffer. What the
// mesh answers itself carries Proxy-Status (RFC 9209) and its reason in the access
// log, and is not to be stored. Callers are told why, the log where: no address inside
// the mesh is in an answer (reply.go).
//
// A client that half-closes waits for its answer as any other; one that closed ends
// its request (orphan.go tells them apart).
package exchange
