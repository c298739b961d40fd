// Package proxy is the sidecar's listeners, and what happens to an accepted
// connection until its protocol is known.
//
//	program ──▶ explicit listener ──▶ route ──▶ upstream.Service ══ mTLS ══▶ …
//	program ──▶ captured (captured.go) ──▶ original destination ──▶ route ──▶ the same
//	… ══ mTLS ══▶ inbound listener ──▶ upstream.Static ──▶ the program beside
//	caller of the program's port ──▶ steered (steered.go) ──▶ the same, or refused
//
// Each protocol has a driver (server.go), which both directions use:
//
//   - http, http2, grpc: package exchange, for clients of HTTP/1.1 and of HTTP/2, whatever
//     the program speaks. Within TLS, ALPN says which; else HTTP/2 begins with its preface.
//   - tcp: tcp.go, one host for the connection's life, bytes relayed by
//     internal/relay with half-close.
//   - auto: sniff.go, one of both by what the client says first.
//
// One inbound listener serves every port of every service beside (inbound.go): the server
// name of the ClientHello says which one, or the authority of a CONNECT stream (hbone.go).
//
// # Ending
//
// [Proxy.Shutdown] closes the listeners, lets running exchanges finish (their
// answers say Connection: close) and running TCP connections end, until its
// context ends; then the rest is aborted. An inbound connection ends before that when
// its caller's certificate does, or when the caller is not trusted any more.
package proxy
