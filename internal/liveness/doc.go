// Package liveness breaks connections on which nothing is heard, for protocols
// whose server sends a ping when it has heard nothing for [PingEvery]: HTTP/2
// with gRPC's server keepalive, whose clients must answer a PING. Both ends wrap
// their TCP connection, beneath the TLS, and every byte is a sign of life:
//
//	gateway ── PING after 1 s without a byte ──▶ sidecar     silent for 2.5 s: frozen, break
//	gateway ◀───────────── PING ACK ──────────── sidecar     silent for 2.5 s: frozen, break
//
// A kernel goes on acknowledging for a frozen process, so nothing that TCP offers
// (keepalive, TCP_USER_TIMEOUT) sees it; and grpc-go's own timeouts are no good: a
// client may not ask before 10 s, and a server that was itself stopped for a
// while (a paused virtual machine, no CPU) finds every answer late when it wakes and
// drops everybody. Here the end that finds its own timer late blames itself
// and waits once more.
package liveness
