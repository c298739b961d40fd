package streams

import "time"

const (
	// runningMultiple × Config.MaxStreams bounds the functions of [Conn.Serve] that run at a
	// time. Streams that the client has reset count until their function has returned.
	runningMultiple = 2

	// worthGivingBack is the part of a stream's window that is given back in one go: one
	// in so many of what it is in the beginning.
	worthGivingBack = 4

	// maxQueue is what waits to be written before payload has to wait as well: four TLS
	// records. corked is how much of it may wait for a stream that has more to say.
	maxQueue = 64 << 10
	corked   = 16 << 10

	// maxUnread is what may wait to be written at most. Payload and one head bring it to half
	// of that: the rest are answers of the engine's to what the other end sends while it reads
	// none of them.
	maxUnread = 4 * maxQueue

	// reportEvery is by how many bytes a connection may hold more, or less, than is known to who
	// bounds what all hold.
	reportEvery = 16 << 10

	// relieveEvery is how often streams are reset at most since too much is held: those that
	// were need a moment to let go of it.
	relieveEvery = 100 * time.Millisecond

	// keepQueue is the largest queue whose memory is kept for the next.
	keepQueue = 2 * maxQueue

	// maxTurns is how many batches a stream writes for others before a goroutine does.
	maxTurns = 4

	// smallChunk and largeChunk are what received bytes wait in: most messages, and a
	// whole frame.
	smallChunk = 2 << 10
	largeChunk = 16 << 10

	// smallRead is the buffer of a connection on which nothing has come for a tick, largeRead
	// of others: a TLS record and the beginning of the next frame, or two frames.
	smallRead = 1 << 10
	largeRead = 32 << 10

	// limitedFor is for how long streams wait for a connection until it is called limited:
	// longer than a burst.
	limitedFor = 50 * time.Millisecond

	// windowPause is for how long nobody may wait for the connection's window before it counts
	// as open again: the other end gives it back in pieces, which those who waited may have
	// used up before they come with more.
	windowPause = 5 * time.Millisecond

	// stallTimeout is how long the other end may take nothing: its reader waits for
	// nobody, so that it is dead or frozen then.
	stallTimeout = 30 * time.Second

	// prefaceTimeout bounds the time to the other end's first SETTINGS.
	prefaceTimeout = 10 * time.Second

	// drainTimeout is how long a connection without streams waits for the other end to say
	// that it knows of the drain.
	drainTimeout = 5 * time.Second

	// goodbyeTimeout bounds the wait for the other end to close once all is written, and,
	// when it broke the protocol, the GOAWAY's way out as well.
	goodbyeTimeout = time.Second

	// tick is how often it is looked what a connection does not need any more, and
	// whether the machine at the other end is still there.
	tick = time.Second
)
