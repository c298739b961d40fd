package exchange

import (
	"io"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
)

// clientEnd is the end of an exchange at which its request comes and its answer goes: a
// connection that speaks HTTP/1.1, or a stream of one that speaks HTTP/2. Bodies have the framing of HTTP/1.1 here whatever
// the client speaks. One goroutine may read while another writes; any may call abort.
type clientEnd interface {
	io.Reader // of the request's body and what follows it
	io.Writer // of the answer's body
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	waiter

	// appendHead begins to answer with r's head. What it appends to dst is to be written
	// in front of the body; last says that there is none.
	appendHead(dst []byte, r *http1.Response, o http1.ResponseRewrite, last bool) []byte
	// reply writes an answer of the mesh itself. last says that no request follows.
	reply(r LocalReply, last bool)
	// refuse answers what is not to become an exchange, and ends the client's end.
	refuse(r LocalReply)
	// finish ends the exchange whose answer is with the client, and reports whether another
	// request may follow; whole says that all of the request's body has been read.
	finish(whole bool) bool
	// gone reports whether the client has left. It looks and does not wait.
	gone() bool
	// abort ends the client's end such that it sees an error.
	abort()
	// relayed returns the connection that the exchange becomes by an upgrade.
	relayed() relay.Conn
}

// waiter lets who holds a buffer give it back while nothing comes.
type waiter interface {
	// ready reports whether it is of use to read with a buffer: something has come, or
	// there is no other way to wait.
	ready() bool
	// await waits until something has come, or the deadline for reading.
	await() error
}

// hostEnd is the end of an attempt at which the request goes and its answer comes: a
// connection that speaks HTTP/1.1, or a stream of one that speaks HTTP/2. Bodies have the framing of HTTP/1.1 here whatever
// the host speaks. One goroutine may read while another writes; any may call Abort.
type hostEnd interface {
	io.Reader // of the answer's body and what follows it
	io.Writer // of the request's body
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	waiter
	Abort() error

	// lookBy sees that a read ends at t, or somewhat before, for a look whether to wait on is of use.
	lookBy(now, t time.Time)

	// send writes the head of x.req, and body behind it, until x.sendBy. It may wait for the answer
	// as well: then readHead says what came of that.
	send(x *exchange, body []byte) error
	// readHead reads on in the next answer's head and reports whether it is in x.resp. It
	// waits once. An error that is an [*http1.Error] says what is wrong with the head.
	readHead(x *exchange) (bool, error)
	// closed reports whether the host has said that it takes no more of the request.
	closed() bool
	// reusable reports whether another request may follow, once the answer is complete.
	reusable(x *exchange) bool
	// relayed returns the connection that the attempt becomes by an upgrade.
	relayed() relay.Conn
}
