// Package tunnel joins gateways by QUIC: byte streams as [net.Conn] that both
// ends open and accept, and packets beside them. It is the only package that knows
// QUIC.
//
// A [Node] owns one UDP socket. On it arrive the connections that peers dial, and
// from it go those that this gateway dials; what is not QUIC is dropped unread. A
// tunnel is what joins two gateways: a few QUIC
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
//	 1 hello    version 1 or later, incarnation 16: the first frame of each end, sent once
//	 2 leaving  empty: open no more streams to me; those that exist go on
//	 3 done     empty: my streams have ended; close when yours have
//	 4 replace  empty: dial a connection that replaces this one, if you dialled it
//	 5 retire   empty: it is replaced; open no more streams on it, those that exist go on
//
// Frames of other types are skipped and bytes after the known ones of a payload
// are ignored, so that both may be added later. The incarnation is a random number
// that a process draws when it starts.
//
// Datagrams (RFC 9221) begin with a type and, but for packets, a number; zeros fill
// them up:
//
//	┌────────┬──────────────┬───────┐
//	│ type 1 │ number 4, BE │ zeros │
//	└────────┴──────────────┴───────┘
//	 0 heartbeat  64 bytes, number 0: meaningless but for being acknowledged
//	 1 probe      as large as the connection's packets can be at the time; behind the
//	              number one byte says in how many seconds the next one comes
//	 2 echo       64 bytes, the number of the probe that it answers
//	 3 packet     no number: what follows the type is a packet of the users'
//
// Other types are ignored. A heartbeat is that long so that a restarted peer, which
// does not know the connection, answers with a stateless reset (RFC 9000, section
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
//	10 busy        too many connections that have not said hello
//	11 untrusted   the certificate is trusted no more, as the roots have changed
//	12 too large   large packets are lost on the way
//	13 replaced    its streams have ended and others take its place
//
// A stream is reset with code 1 when its user aborted it, and the peer is asked
// to stop sending with code 2 when its user does not read it any more.
//
// # Small messages
//
// Many streams carry requests and answers that are smaller than a packet. What several of them
// write at the same moment leaves in common packets (gather.go). A lone message waits for nobody.
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
// A peer that no path leads to, and none did within the last minute, is not in use,
// unless a connection to it is that young. It is dead when nothing was heard for 20
// seconds, and asked every five, so that a thousand idle tunnels cost little. As soon as
// a path is opened, or a user doubts that it is alive ([Node.Doubt]), it is asked at
// once, and its silence counts from then.
//
// # Packet size
//
// A connection begins with packets of 1200 bytes, and path MTU discovery makes them
// larger. QUIC does not notice that a path passes them no more (a changed route, a
// lowered MTU): small packets still do, heartbeats and acknowledgements among them,
// and streams hang. So each end sends a probe of full size every second (every 20
// while the peer is not in use), and more while no echo comes. After a second without,
// or when the peer's probe is a second late, the connection is replaced by one that
// begins small again (RFC 8899, section 4.3): new streams pass within three seconds. If nothing comes later
// either, the old one is closed, as its streams hang. [Peer] says so. Every ten
// minutes larger packets are tried again, on connections that replace those of the
// peer.
//
// # Replacing
//
// The end that dialled a connection dials what replaces it, by itself or because
// the peer asks: when a certificate expires soon and there is a new one, when large
// packets are lost, when larger ones are to be tried. New streams go by the new
// connection at once. The old one is retired: each end says when its streams have
// ended, and the other one closes it then.
//
// A connection ends with the first of its certificates, those of intermediates
// included, unless the same process of the peer has another connection by then whose
// certificates are valid: who renews in time keeps its streams. When the roots
// change every connection is judged again, also such a one: its certificate must
// still lead to a root that is trusted.
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
