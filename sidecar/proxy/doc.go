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
//   - HTTP: package exchange.
//   - TCP: tcp.go, one host for the connection's life, bytes relayed by
//     internal/relay with half-close.
//
// # Ending
//
// [Proxy.Shutdown] closes the listeners, lets running exchanges finish (their
// answers say Connection: close) and running TCP connections end, until its
// context ends; then the rest is aborted. An inbound connection ends before that when
// its caller's certificate does, or when the caller is not trusted any more.
package proxy
