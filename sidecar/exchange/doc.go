// Package exchange is the HTTP core of the sidecar: it carries requests from a
// client's connection to a host of their service, and the answers back. It knows
// nothing of listeners, of TLS and of how a protocol is told; package proxy does.
//
// One request, in order:
//
//	Server.Serve              a client connection (ServeHTTP2: its streams)
//	readHead                  the request's head, by package http1
//	session.serveRequest      where it goes
//	exchange.run              attempts, until one has an answer or none is left:
//	  upstream.Attempts.Next    a lease: a connection to a host, or a stream of one
//	  exchange.try              one attempt
//	    send, upload.start        the head, and the body as it comes
//	    receive                   the answer's head
//	    passAnswer, download.run  the answer, to the client
//	exchange.complete         the lease goes back, the next request may come
//
// A request is a head and a body stream (upload.go), an answer a head and another
// (download.go), and what an attempt runs on a lease. All of it is one goroutine
// per client connection or stream; a request whose body has not arrived in whole gets a second
// one for the upload while it lasts, so that an early answer is seen and neither
// side's backpressure can stop the other direction.
//
// # Ends
//
// An exchange has two ends (ends.go), and each is one of two things:
//
//	               client's end    host's end
//	HTTP/1.1       clientConn      hostConn       a connection, one exchange after the other
//	HTTP/2         clientStream    hostStream     a stream of a shared connection
//
// Between them a message is HTTP/1.1 whatever is spoken: a head that came by HTTP/2 is written
// as the text of HTTP/1.1 and parsed by http1, and a body without a length has chunked
// framing (framing.go). So policies, rewriting, retries, limits and logs know one form, and
// what http1 refuses reaches nobody. From HTTP/1.1 to HTTP/1.1 the bytes of a body pass as they
// came. Towards HTTP/2 a head is walked field by field, and the framing is taken off.
//
// An upgrade is the extended CONNECT of RFC 8441 where HTTP/2 is spoken. A client that resets its
// stream ends the attempt at once; one that closes its connection is noticed at the next look.
//
// # gRPC
//
// A request with content-type application/grpc is a call (grpc.go). What the mesh answers to it
// is a Trailers-Only answer with a status, never a page; an answer that breaks off on a
// stream ends with a status too. grpc-timeout bounds the exchange and goes on shortened by
// the time that was spent. UNAVAILABLE without an answer says of the host what 503 says.
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
//	                  handshake failed, nothing was written,
//	                  a stream that was refused, or
//	                  beyond what GOAWAY says was begun
//	may have reached  the connection died before the first      once, in the same
//	somebody          byte of an answer, or the far sidecar     cluster, if the method is
//	                  got none from its program                 idempotent, or a rule says
//	                                                            so, and the budget grants it
//	the host is gone  it went out of service while we waited,   the next host, under the
//	                  or the gateway of the path did            same two conditions
//	declined          nothing went down yet, and the answer     as often as the rule says
//	                  has a status after which the rule has     under the same conditions,
//	                  it sent again (declined.go)               another instance first
//	answered          any byte went down to the client, or      never
//	                  what came is no HTTP answer
//
// A rule bounds all that may have been seen, and never more than that is sent. It is the sidecar
// of the caller that knows rules; the one beside the program repeats what it would without.
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
