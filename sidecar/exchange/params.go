package exchange

import "time"

const (
	// DefaultPark is how long an idle client connection keeps its buffers. A busy
	// connection's next request comes sooner, and pays no extra system call.
	DefaultPark = time.Second
)

const (
	// headTimeout bounds the time from the first byte of a request's head to its
	// last: slower is an attack that holds connections (slow loris).
	headTimeout = 10 * time.Second
	// idleTimeout closes a client's connection on which no request came. Callers'
	// sidecars close theirs after 60 s (sidecar/upstream), so that it is never we
	// who close in the face of a request.
	idleTimeout = 300 * time.Second
	// idleStream ends an exchange on which nothing moved in either direction, and
	// one whose answer does not begin, when nobody has said otherwise.
	idleStream = 5 * time.Minute
	// idleRelay ends a TCP or upgraded connection on which nothing moved, when nobody
	// has said otherwise: programs keep those open on purpose, and many rely on the 2 h
	// of TCP keep-alive.
	idleRelay = time.Hour
	// lookAfter is how long an answer may take until we look whether the client is
	// still there and the host still in service, and between looks. A look costs a
	// system call.
	lookAfter = time.Second
	// lookDuring is lookAfter for the rest of an answer: it may be a stream that says
	// little.
	lookDuring = 4 * time.Second
	// sendTimeout bounds the write of a head with what there is of the body, at most
	// replaySize: sockets take that much at once, unless who reads stands still.
	sendTimeout = 5 * time.Second
	// lingerTimeout bounds how long an upload may stand still after its answer is
	// complete, and how long we listen to a client that is told to go away, so that
	// it reads the answer before its sending fails (RFC 9112 §9.6).
	lingerTimeout = 5 * time.Second
	// refusedIdleTimeout is idleTimeout for a client that cannot be served anyway.
	refusedIdleTimeout = 5 * time.Second
)

const (
	// programStreams bounds the streams of a connection of the program beside: a gRPC channel
	// is one connection, and its streams beyond the bound wait without a word. A connection
	// holds at most 1,000 × 64 KiB + 2 MiB = 64.5 MiB of payload (see http2.Growth). A stream that nothing moves on holds its
	// structs and two goroutines, about 30 KiB: 30 MiB. Others have 100 streams: 8.25 MiB.
	programStreams = 1000

	// replaySize is how much of a request's body is kept to send it again, in
	// bytes; also the read buffer of an upload. The gateways keep as much.
	replaySize = 64 << 10
	// smallReplay is what an upload of a stream begins with, in bytes.
	smallReplay = 4 << 10
	// maxDiscard bounds what is read of a body that nobody takes, in bytes: more than
	// the kernels between hold of one that its sender takes for sent.
	maxDiscard = 64 << 20
	// clientBuffer and backBuffer are the read buffers of a connection in bytes:
	// heads of ordinary programs and small bodies fit, and one TLS record.
	clientBuffer = 16 << 10
	backBuffer   = 16 << 10
	// streamBuffer is either for a stream, of which a connection has many.
	streamBuffer = 2 << 10
	// maxGrown is how many times as large a buffer may be that is used again.
	maxGrown = 4
	// bulkBuffer replaces backBuffer for the rest of a large answer: four records a
	// read where the kernel has them.
	bulkBuffer = 64 << 10
	// maxInterim bounds the interim (1xx) answers before the final one.
	maxInterim = 16
)
