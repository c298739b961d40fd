// Package tunnel joins gateways by QUIC: byte streams as [net.Conn] that both
// ends open and accept, and packets beside them on the same UDP socket. It is
// the only package that knows QUIC.
//
// A [Node] owns one UDP socket. On it arrive the connections that peers dial,
// from it go those that this gateway dials, and on it travel the packets that
// are not QUIC (gossip), told apart by the two upper bits of their first byte,
// which are zero (RFC 9443). A tunnel is what joins two gateways: a few QUIC
// connections under mutual TLS 1.3, [Config.Connections] of them. What a stream
// carries is not this package's business.
//
// # Wire format
//
// ALPN is "isthmus/1". The first bidirectional stream of a connection, opened by
// the end that dialled, is the control stream; all others are the users'. Both
// ends write frames to it, the end that dialled first:
//
//	┌────────┬──────────────┬─────────────────┐
//	│ type 1 │ length 2, BE │ length bytes    │
//	└────────┴──────────────┴─────────────────┘
//	 1 hello    version 1, incarnation 16: the first frame of each end, sent once
//	 2 leaving  empty: open no more streams to me; those that exist go on
//	 3 done     empty: my streams have ended; close when yours have
//
// Frames of other types are skipped and bytes after the known ones of a payload
// are ignored, so that both may be added later. The incarnation is a random number
// that a process draws when it starts.
//
// Datagrams (RFC 9221) carry heartbeats: 64 zero bytes, meaningless but for
// being acknowledged. They are that long so that a restarted peer, which does
// not know the connection, answers with a stateless reset (RFC 9000, section
// 10.3): it must not answer shorter packets.
//
// A connection is closed with one of these codes; the reason is for humans:
//
//	 0 bye         all streams of a leaving end have ended
//	 1 leaving     the end leaves and could not wait for its streams
//	 2 stopped     the process ends, and is expected back
//	 3 silent      nothing was heard
//	 4 expired     a certificate of the connection has expired
//	 5 superseded  a newer process of the same gateway took its place
//	 6 duplicate   another live process has the same gateway name
//	 7 self        the end reached itself
//	 8 surplus     there are enough connections already
//	 9 protocol    the control stream was broken
//	10 busy        too many handshakes
//	11 untrusted   the certificate is trusted no more, as the roots have changed
//
// A stream is reset with code 1 when its user aborted it, and the peer is asked
// to stop sending with code 2 when its user does not read it any more.
//
// # Liveness
//
// A peer is dead when nothing was heard from it for a second: longer on a long
// path (four round trips), and longer for a peer that was heard late a moment
// ago (twice its worst recent gap, at most two seconds), because on a loaded
// machine being late is not being dead. After a quarter of that time a heartbeat
// asks. The time is counted in this process's own ticks, each worth no more than
// a few of its nominal length, so that a process that did not run itself does
// not blame its peers. One goroutine counts for all connections; [pulse] is its pure
// arithmetic.
//
// # Two processes with one name
//
// When a connection arrives from a gateway whose other connections were made by
// another incarnation, those are asked for a sign of life. If one answers, the
// incumbent stays and the newcomer is refused (duplicate). If none does, the
// gateway was restarted: the old connections are closed (superseded) and the new one
// counts. A restarted process on the old address answers the question itself,
// with a stateless reset, so this costs one round trip.
//
// # Who dials
//
// Either end may. When both know each other the one with the smaller name goes
// first and the other waits a moment, so that normally one of them dials; if both
// do, the few extra connections are kept.
package tunnel
