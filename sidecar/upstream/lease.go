package upstream

import (
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// Lease is what an attempt runs on: a connection that nobody else uses meanwhile, or a
// stream of one that others may use, too. It needs one [Lease.Done], and then one of
// [Lease.Return], Close and Abort; then what it was is another's.
type Lease struct {
	*Conn
	host     *Host
	attempts *Attempts // nil: nobody else is tried
	done     bool
	stream   *streams.Stream // nil: the connection itself
	reused   bool            // somebody had a stream of the connection before
	began    instant         // of a stream
}

// Last is the lease for who tries nobody else after it: it holds on to none of the attempts,
// which are its user's again.
func (l *Lease) Last() Lease {
	last := *l
	last.attempts = nil
	return last
}

// Stream returns the stream that the lease is, nil for a connection.
func (l *Lease) Stream() *streams.Stream { return l.stream }

// Addr returns the address that was dialled, host:port.
func (l *Lease) Addr() string { return l.host.key.addr }

// Read reads payload.
func (l *Lease) Read(b []byte) (int, error) {
	if l.stream != nil {
		return l.stream.Read(b)
	}
	return l.Conn.Read(b)
}

// Write writes payload.
func (l *Lease) Write(b []byte) (int, error) {
	if l.stream != nil {
		return l.stream.Write(b)
	}
	return l.Conn.Write(b)
}

// CloseWrite ends our direction. What was written before arrives.
func (l *Lease) CloseWrite() error {
	if l.stream != nil {
		return l.stream.CloseWrite()
	}
	return l.Conn.CloseWrite()
}

// SetDeadline sets both deadlines.
func (l *Lease) SetDeadline(t time.Time) error {
	if l.stream != nil {
		return l.stream.SetDeadline(t)
	}
	return l.Conn.SetDeadline(t)
}

// SetReadDeadline bounds reads.
func (l *Lease) SetReadDeadline(t time.Time) error {
	if l.stream != nil {
		return l.stream.SetReadDeadline(t)
	}
	return l.Conn.SetReadDeadline(t)
}

// SetWriteDeadline bounds writes.
func (l *Lease) SetWriteDeadline(t time.Time) error {
	if l.stream != nil {
		return l.stream.SetWriteDeadline(t)
	}
	return l.Conn.SetWriteDeadline(t)
}

// Sent reports whether payload has left since [Attempts.Next]. When nothing has, no
// application saw the request, and it may be tried elsewhere whatever it is.
func (l *Lease) Sent() bool {
	if l.stream != nil {
		return l.stream.Sent()
	}
	return l.Conn.Sent()
}

// Answered reports whether payload has arrived since [Attempts.Next].
func (l *Lease) Answered() bool {
	if l.stream != nil {
		return l.stream.Answered()
	}
	return l.Conn.Answered()
}

// Cut makes who uses the lease see an error, at both ends. Any goroutine may call it while
// the lease is in use; it is still its user's to end.
func (l *Lease) Cut() {
	if l.stream != nil {
		_ = l.stream.Abort()
		return
	}
	_ = l.Conn.Abort()
}

// Outcome is how an attempt ended.
type Outcome uint8

// The outcomes.
const (
	// Answered: the exchange is complete, whatever the application said.
	Answered Outcome = iota
	// GatewayError: the answer was 502, 503 or 504, or UNAVAILABLE of gRPC.
	GatewayError
	// Unserved: a far sidecar has answered that it does not reach its program.
	Unserved
	// Broken: no connection came about, or it broke before the exchange was
	// complete.
	Broken
	// Abandoned: the caller went away, which says nothing about the host.
	Abandoned
)

// Done says how the attempt ended; only the first call counts. latency is the time
// to the answer, 0 when there is nothing to learn from it (TCP). The attempts learn
// whom to ask next: after what broke behind a gateway the gateway may be asked
// again, for another instance.
func (l *Lease) Done(o Outcome, latency time.Duration) { l.DoneAt(time.Now(), o, latency) }

// DoneAt is [Lease.Done] of an attempt that has just ended, at a time that is known already.
func (l *Lease) DoneAt(at time.Time, o Outcome, latency time.Duration) {
	if l.done {
		return
	}
	l.done = true
	now := l.host.service.shared.at(at)
	if l.stream != nil {
		l.host.doneOnStream(now, l, o, latency)
		return
	}
	l.host.done(now, l.attempts, l.Conn, o, latency)
}

// Return gives back a connection whose exchange is complete and that may carry
// another: it is kept, or closed when the host is gone, when there are enough, or
// when who answers may no longer do so. Deadlines that the caller has set stay: it
// clears them before. A stream is over, else it is reset.
func (l *Lease) Return() {
	if l.release(true) {
		l.host.put(l.Conn)
	}
}

// Close ends the lease: the connection, unless it has streams; one that is not over is
// reset.
func (l *Lease) Close() error {
	if l.release(true) {
		return l.Conn.Close()
	}
	return nil
}

// Abort ends the lease such that the other side sees an error. A path on which nothing else
// has ended in order meanwhile takes no other requests.
func (l *Lease) Abort() error {
	if l.release(false) {
		return l.Conn.Abort()
	}
	return nil
}

// release ends the use of the stream, if the lease is one, and reports whether the connection
// is the caller's now. ok says that the exchange has ended in order.
func (l *Lease) release(ok bool) bool {
	stream := l.stream
	if stream == nil {
		return true
	}
	l.stream = nil
	if l.Conn.shared {
		l.host.sharing.release(l.Conn, stream)
		return false
	}
	stream.Release()
	l.host.pool.release(l.Conn, l.began, l.host.service.shared.now(), ok)
	return false
}

// Superseded reports whether it is no use to wait for an answer much longer: the
// control plane has taken the host away or calls it unready, or connections to it
// fail, and somebody who was not asked is in service. A process that is frozen keeps
// its connections: nothing but this tells of it.
func (l *Lease) Superseded() bool { return l.host.superseded(l.attempts) }

// pathLost reports whether the attempt's gateway is out of service: then what was lost
// is the path to it.
func (l *Lease) pathLost() bool { return l.host.key.gateway && l.host.doubtful.Load() }
