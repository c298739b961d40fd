package proxy

import "time"

const (
	// handshakeTimeout bounds an inbound TLS handshake. Two round trips to the far
	// side of the world are 0.6 s; a loaded machine may need more.
	handshakeTimeout = 10 * time.Second
	// tunnelTimeout bounds the answer to a CONNECT stream, for which the other side connects to
	// its program.
	tunnelTimeout = 10 * time.Second
	// sharedIdle closes a shared connection on which a caller had no stream for so long.
	sharedIdle = 5 * time.Minute
	// turnAwayTimeout and turnAwayBytes bound what a client that speaks no TLS is still
	// listened to once it has been told so.
	turnAwayTimeout = time.Second
	turnAwayBytes   = 64 << 10
	// programIdle closes a connection to the program beside that nobody used for so
	// long: below the 5 s after which several common servers (Node.js, gunicorn)
	// close theirs, so that a request never meets a closing connection.
	programIdle = 4 * time.Second
	// routeTimeout bounds how long the first connection to a destination waits for
	// its route.
	routeTimeout = 5 * time.Second
	// passTimeout bounds the dial for a captured connection that is not the mesh's: the
	// program has its own bounds, and believes that it is connected.
	passTimeout = 10 * time.Second
	// drainIdle is how long idle client connections stay open once a drain began: a
	// request that is on its way is still answered, with Connection: close.
	// drainIdleInbound is the same for callers of the program, who may be on the other
	// side of the world: a gateway's goodbye takes one way to them, and what crossed it
	// the other. Those who heard close first, so that few stops take as long.
	drainIdle        = 300 * time.Millisecond
	drainIdleInbound = time.Second
	// finishPause is how long a listener that finishes waits for one more
	// connection; maxFinish bounds all that, since callers may never cease to come.
	finishPause = 5 * time.Millisecond
	maxFinish   = 250 * time.Millisecond
)

const (
	// maxLines bounds the lines in the log about strangers at once; then there is one a
	// second.
	maxLines = 16
	// maxConnections bounds the connections of one listener: far above what one
	// program has, and about 1 GiB if all of them were busy at once.
	maxConnections = 16 << 10
	// inboundPart is the part of the descriptors that connections of the program's callers may
	// hold, and as many go to the program for them: that leaves a third to the program's
	// own connections. Streams of shared connections cost only the latter, so that there may be
	// twice as many: with 20,000 descriptors one caller may have 10,000 TCP connections.
	inboundPart = 3
	// strangerPart and maxStrangers bound the callers that have not proved who they are.
	// A handshake takes two round trips, so that 1,000 are as many new callers in half
	// a second across the world; half-shaken they are 30 MiB at most.
	strangerPart = 16
	maxStrangers = 1 << 10
	// maxEverServed bounds the ports of what runs beside, those included that are not served
	// any more, twice what a gateway tells at a time: a pod's services seldom change.
	maxEverServed = 512
	// callerMultiple is how much one caller may hold of what is free, see
	// [limit.Shares]: alone, eight ninths.
	callerMultiple = 8
	// connectionPlaces is how much of that a caller's connection holds, in descriptors: itself and
	// one to the program. Of a shared connection each stream holds the latter.
	connectionPlaces = 2
)
