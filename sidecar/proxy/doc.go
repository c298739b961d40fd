// Package proxy is the sidecar's data plane: its listeners, and what happens
// between an accepted connection and an upstream one.
//
//	program ──▶ explicit listener ──▶ route ──▶ upstream.Service ══ mTLS ══▶ …
//	program ──▶ captured (captured.go) ──▶ original destination ──▶ route ──▶ the same
//	… ══ mTLS ══▶ inbound listener ──▶ upstream.Static ──▶ the program beside
//	caller of the program's port ──▶ steered (steered.go) ──▶ the same, or refused
//
// A listener speaks HTTP/1.1 or raw TCP. Both directions use the same drivers:
//
//   - session.go, exchange.go, download.go, upload.go: one goroutine per client connection takes
//     requests off package http1, picks a host, and carries the answer back. A
//     request whose body has not arrived in whole gets a second goroutine for the
//     upload while it lasts, so that an early answer is seen and neither side's
//     backpressure can stop the other direction.
//   - tcp.go: one host for the connection's life, bytes relayed by
//     internal/relay with half-close.
//
// # Retries
//
// An attempt ends in one of three ways (retry.go decides what follows):
//
//	reached nobody    connect refused, CONNECT refused,         always the next host
//	                  handshake failed, nothing was written
//	may have reached  the connection died before the first      the next host if the
//	somebody          byte of an answer, the far sidecar got    method is idempotent and
//	                  none from its program, or the host went   the budget grants it
//	                  out of service while we waited
//	answered          any byte went down to the client          never
//
// In either case what was sent of the body must still be in the buffer. Attempts
// are bounded by params.go; hosts are never asked twice in a round, and a second
// round waits a moment. What the mesh answers itself carries Proxy-Status
// (RFC 9209) and its reason in the access log, and is not to be stored. Callers are
// told why, the log where: no address inside the mesh is in an answer (answer.go).
//
// A client that half-closes waits for its answer as any other; one that closed ends
// its request (orphan.go tells them apart).
//
// # Ending
//
// [Proxy.Shutdown] closes the listeners, lets running exchanges finish (their
// answers say Connection: close) and running TCP connections end, until its
// context ends; then the rest is aborted.
package proxy
