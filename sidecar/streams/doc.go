// Package streams drives a shared HTTP/2 connection: it reads and writes a net.Conn for
// an engine of package http2 and gives each stream to a goroutine of its own, which uses
// it like a connection.
//
//	         ┌ one goroutine ┐                     ┌ whoever finds nobody writing ┐
//	net.Conn ─▶ read ─▶ http2 ─▶ Stream ─▶ … ─▶ Stream ─▶ http2 ─▶ queue ─▶ Write
//
// # Reading
//
// One goroutine reads the connection and waits for no stream: what it reads waits in
// the stream, in pooled chunks, until that is read; the stream's window bounds it, and is
// given back as it is read. The window of the connection is given back at once: it is never
// what a stream waits for because another is not read. A connection on which nothing arrives
// holds no buffer (plain TCP) or a small one (TLS, which cannot be asked).
//
// # Writing
//
// A stream appends its frames to the connection's queue. Who finds nobody writing writes:
// it yields once, so that others who are ready append theirs, and then writes all that has
// been queued in one Write, until there is nothing. So at 50 exchanges at a time there are few
// system calls and full TLS records, and at one there is no wait. The queue is bounded: who has more
// than there is room for waits for its turn. Who waits for a window has none, and holds up
// nobody. The goroutine that reads never writes.
//
// # Streams
//
// [Stream] is used by its own goroutines: one reads, another writes, any may reset it.
// On the server's side the function that was given to [Conn.Serve] has the stream until it
// returns (one that is reset before that is called is not served at all); on the client's, who opened it until [Stream.Release]. Then the struct serves the
// next: nothing is allocated for a stream in the steady state.
//
// # Parts
//
// [Conn] has one lock, and what has to be true of all together: how it ends, and when it is looked
// after. [Stream] has what both of its directions share. The rest:
//
//	reader, readBuffer        the goroutine that reads, and what the engine says of that
//	writer, sendQueue, turns  who writes; what waits to be written; who waits to append to it
//	receiveSide, sendSide     a stream's directions, with who waits there (waiter, deadline)
//	server                    begins the streams of a client
//	streamSet                 which are in use, and which are kept
//	fullWindow, heldBytes     for how long the window has been full; what nobody has read
//	upkeep                    when the connection is looked after
//
// reader, writer, server and the sides know their Conn; the others are values under its lock.
//
// # Ends
//
// [ResetError] says who ended a stream and whether it was processed; [ConnError] that the
// connection is gone. [Conn.Drain] ends a connection when what runs has ended.
//
// Sources: RFC 9113; golang.org/x/net/http2 for what peers do.
package streams
