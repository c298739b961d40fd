package streams

import (
	"net"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http2"
)

// Stream is one exchange, or one tunnel, on a shared connection. One goroutine may read
// while another writes; Reset, Abort, Close and the deadlines are for any. It is not used
// any more after Release, or after the function of [Conn.Serve] has returned.
type Stream struct {
	conn  *Conn
	begin chan struct{} // the next stream is here; nil on the client's side

	receiveSide
	sendSide

	scheme string // of a request: set before it is served

	// Guarded by conn.mu.
	place   int         // in streamSet.using
	id      uint32      // 0: the head was not written yet
	alone   bool        // it has no goroutine any more, on the server's side
	err     error       // it was reset, or the connection is gone
	onEnd   func(error) // nil: nobody asked
	telling bool        // onEnd is being called
	upgrade []byte      // the protocol that an extended CONNECT asked for
	opened  time.Time   // on the client's side
	carried int         // bytes of payload, both directions together

	// The goroutine's that reads the connection.
	beganAt int  // the place in server.began after this one; 0: in none
	runs    bool // it has a goroutine, on the server's side
}

func newStream(c *Conn) *Stream {
	s := &Stream{conn: c}
	s.receiveSide.stream, s.sendSide.stream = s, s
	s.receiveSide.init(&c.mu)
	s.sendSide.init(&c.mu)
	return s
}

// OnEnd calls f when the other end resets the stream, or the connection breaks; at once if
// that has happened. It is called on the goroutine that reads the connection, without
// locks, and must not wait; once the stream is released it is not any more. A nil f takes it back.
func (s *Stream) OnEnd(f func(error)) {
	s.conn.mu.Lock()
	s.onEnd = f
	err := s.err
	s.conn.mu.Unlock()
	if f != nil && err != nil {
		f(err)
	}
}

// SetDeadline sets both deadlines.
func (s *Stream) SetDeadline(t time.Time) error {
	_ = s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// Err returns why the stream was reset, or is broken; nil while it is not.
func (s *Stream) Err() error {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.err
}

// Scheme returns the :scheme of the request, on the server's side: http, https, or empty for a
// plain CONNECT.
func (s *Stream) Scheme() string { return s.scheme }

// LocalAddr returns the connection's.
func (s *Stream) LocalAddr() net.Addr { return s.conn.nc.LocalAddr() }

// RemoteAddr returns the connection's.
func (s *Stream) RemoteAddr() net.Addr { return s.conn.nc.RemoteAddr() }

// Conn returns the connection that the stream is on.
func (s *Stream) Conn() *Conn { return s.conn }

// Abort is Close: a stream that is not over has no other end that its peer would see.
func (s *Stream) Abort() error { return s.Close() }

// Close ends the stream: what is not over is reset.
func (s *Stream) Close() error {
	s.Reset(http2.Cancel)
	return nil
}

// Reset ends the stream, both directions at once, unless both are over, and tells the other
// end why. It does not wait.
func (s *Stream) Reset(code http2.Code) {
	s.conn.mu.Lock()
	s.endLocked(code)
	s.conn.unlockAndWriteElsewhere()
}

// endLocked resets the stream, unless it is over.
func (s *Stream) endLocked(code http2.Code) {
	c := s.conn
	if s.err != nil || s.inEnded && s.outEnded {
		return
	}
	if s.id != 0 {
		c.out.put(c.engine.AppendReset(c.out.buffer(), s.id, code))
	}
	s.breakLocked(&ResetError{Code: code})
}

// breakLocked makes err the stream's end and wakes its goroutines. It reports whether the
// stream had none.
func (s *Stream) breakLocked(err error) bool {
	if s.err != nil {
		return false
	}
	s.err = err
	if !s.inEnded {
		s.discardLocked()
	}
	if f := s.onReadable; f != nil {
		s.onReadable = nil
		s.conn.owned.Go(f) // the connection is not closed yet: else s.err was set
	}
	s.receiveSide.wake()
	s.sendSide.wake()
	return true
}

// Release ends the use of a stream that [Conn.Open] gave: what is not over is reset. It is
// called once, when no goroutine uses the stream any more.
func (s *Stream) Release() {
	c := s.conn
	c.mu.Lock()
	c.dropLocked(s, http2.Cancel)
	c.unlockAndWriteElsewhere()
}

// toldLocked notes that s has ended because of the other end, and returns ended with what is to
// be told of it.
func (s *Stream) toldLocked(ended []end, err error) []end {
	if s.onEnd == nil {
		return ended
	}
	s.telling = true
	return append(ended, end{s, s.onEnd, err})
}

// resetLocked makes it the next stream.
func (s *Stream) resetLocked() {
	s.receiveSide.resetLocked()
	s.sendSide.resetLocked()
	s.id, s.err, s.onEnd, s.scheme, s.upgrade, s.carried = 0, nil, nil, "", s.upgrade[:0], 0
}

// stopLocked lets go of a stream that is not used again.
func (s *Stream) stopLocked() {
	s.receiveSide.deadline.stop()
	s.sendSide.deadline.stop()
	if s.begin != nil {
		close(s.begin)
	}
}
