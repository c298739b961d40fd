// Package http2 is the sidecar's HTTP/2 wire engine (RFC 9113, RFC 7541, RFC 8441):
// bytes in, events and bytes out. It holds no socket, clock or goroutine, is bounded in
// every direction, and allocates nothing per exchange once a connection is warm.
//
// One [Conn] is one end of one connection, whichever role it has. A driver passes what
// has arrived and writes what the engine appends:
//
//		c := http2.NewServer(http2.Settings{})        // or NewClient
//		out = c.Start(out)                            // preface and SETTINGS: send first
//		n, err := c.Next(in, &ev)                     // one frame at most, or a part of DATA
//		out = c.Output(out)                           // what the engine itself answers
//
//		out = c.BeginResponse(out, id, 200)           // BeginRequest, BeginTrailers
//		out = c.AppendField(out, name, value)
//		out = c.EndHead(out, false)
//		out, n = c.AppendData(out, id, payload, true) // as much as the windows allow
//		c.Consumed(id, n)                             // a reader took n bytes
//
//	  - A Conn is not safe for concurrent use: the driver holds a lock. What Append…
//	    methods return must reach the peer in the order of the calls, whole.
//	  - DATA is given as it comes, in slices of the input; nothing of it is kept. Heads are
//	    kept only until the next call of Next: write them down with [Head.AppendRequestText]
//	    or [Head.AppendResponseText].
//	  - A fault of one stream (RFC 9113 §5.4.2) is answered by the engine and told as
//	    [KindReset] with Local. A fault of the connection is an [*Error]: GOAWAY is in the
//	    output, and the connection is over once it is written.
//	  - Frames for streams that are closed are ignored as RFC 9113 §5.1 wants; of the last
//	    [maxRecent] streams the engine knows how they were closed, older ones get the
//	    benefit of the doubt.
//
// # Parts
//
// [Conn] has the streams, and what a driver sends; receiver makes events of what arrives. Both
// change the same streams, windows and budgets. The rest are values that know nothing of a Conn:
//
//	framing, dataFrame, fieldBlock   what is half read: order of frames, DATA, a head
//	headWriter                       the head that is being written
//	streamSet                        which streams are open, closed, idle (RFC 9113 §5.1)
//	sendWindow, receiveWindow        flow control, of a stream and of the connection (§5.2)
//	Settings, PeerSettings           ours and the peer's (§6.5)
//	goAway                           the end of the connection (§6.8)
//	budgets                          what a peer may make us do
//
// # Heads
//
// A head is checked by all of RFC 9113 §8 while it is decoded, and its text form is
// read again by package http1, the strict one: what would be a smuggled request on the
// way from HTTP/2 to HTTP/1.1 has to pass two parsers.
//
// # Flow control
//
// Every stream may have Settings.StreamWindow bytes on their way or unread. They are
// given back when they were read ([Conn.Consumed]), in halves; the window of a stream that is
// read as fast as its peer sends grows to [GrownStreamWindow], as long as all of a
// connection have not grown by [Growth]. The connection's window
// is given back when bytes arrive, whoever reads them or not: a stream that nobody
// reads costs its own window and stalls nobody. So a peer can make us hold at most
//
//	Settings.MaxStreams × Settings.StreamWindow + Growth = 100 × 64 KiB + 2 MiB = 8.25 MiB
//
// bytes of a connection, by filling the windows of all streams that it may have open
// at a time (in the client's role: of those that we opened).
//
// # Budgets
//
// What costs us and not the peer is counted, and too much of it is a connection error
// ENHANCE_YOUR_CALM with a name, or with rapid resets the end of new streams: see budget.go. There is no clock in here: budgets come
// back with useful work, and with the time that a driver reports ([Conn.Elapsed]).
package http2
