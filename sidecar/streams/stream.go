package streams

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http2"
)

// Stream is one exchange, or one tunnel, on a shared connection. One goroutine may read
// while another writes; Reset, Abort, Close and the deadlines are for any. It is not used
// any more after Release, or after the function of [Conn.Serve] has returned.
type Stream struct {
	conn  *Conn
	begin chan struct{} // the next stream is here; nil on the client's side

	readable, writable chan struct{} // something has changed for who waits
	readDue, writeDue  func()        // the deadlines have passed

	// The reading goroutine's.
	now   *chunk // taken out of in
	taken int    // payload that was read and whose window is not given back yet
	last  bool   // nothing comes after now

	held bool // the writing goroutine's: Cork

	// Guarded by conn.mu.
	place         int    // in conn.using
	id            uint32 // 0: the head was not written yet
	in            chunks
	alone         bool        // it has no goroutine any more, on the server's side
	answered      bool        // a head has come
	inEnded       bool        // END_STREAM has come
	outEnded      bool        // END_STREAM is queued
	err           error       // it was reset, or the connection is gone
	onEnd         func(error) // nil: nobody asked
	telling       bool        // onEnd is being called
	onReadable    func()      // once
	upgrade       []byte      // the protocol that an extended CONNECT asked for
	scheme        string      // of a request
	headAt        uint64      // conn.queued before it
	opened        time.Time   // on the client's side
	carried       int         // bytes of payload, both directions together
	unread        int         // bytes of memory of in, and of now unless all of that was read
	taking        int         // of them now's
	shed          bool        // it was reset since all streams together held too much
	readDeadline  deadline
	writeDeadline deadline
	turn          turn // to write

	// The goroutine's that reads the connection.
	wakes   bool // in reader.woken
	beganAt int  // the place in reader.began after this one; 0: in none
	runs    bool // it has a goroutine, on the server's side
}

func newStream(c *Conn) *Stream {
	s := &Stream{conn: c, readable: make(chan struct{}, 1), writable: make(chan struct{}, 1)}
	s.readDue = func() { s.due(&s.readDeadline, s.readDue, s.readable) }
	s.writeDue = func() { s.due(&s.writeDeadline, s.writeDue, s.writable) }
	return s
}

// errOrder is why a head is not read or written: a body comes before it. It is a bug of who
// uses the stream.
var errOrder = errors.New("the stream is not at a head")

// ReadHead waits for the next head and appends its text in the form of HTTP/1.1, empty
// line included, to dst: a request's on the server's side; on the client's each interim
// answer's, then the final one's. It has been validated (RFC 9113 §8).
// end says that nothing follows it: no body and no trailers.
func (s *Stream) ReadHead(dst []byte) (_ []byte, end bool, err error) {
	switch err := s.fill(); {
	case errors.Is(err, io.EOF):
		return dst, false, io.ErrUnexpectedEOF
	case err != nil:
		return dst, false, err
	case s.now.kind == largeHead:
		return dst, false, ErrHeadTooLarge
	case s.now.kind != head:
		return dst, false, errOrder
	}
	dst = append(dst, s.now.buf[s.now.from:s.now.to]...)
	s.next()
	return dst, s.Ended(), nil
}

// Read reads payload. At the end of what the other end sends it gives io.EOF, with the last
// of the payload when that end is here already; then the trailers are here as well.
func (s *Stream) Read(b []byte) (int, error) {
	if err := s.fill(); err != nil || len(b) == 0 {
		return 0, err
	}
	n := 0
	for n < len(b) && s.now != nil && s.now.kind == payload {
		k := copy(b[n:], s.now.buf[s.now.from:s.now.to])
		n += k
		if s.now.from += k; s.now.from == s.now.to {
			s.next()
		}
	}
	s.giveBack(n)
	switch {
	case s.now == nil && s.Ended(), s.now != nil && s.now.kind == trailers:
		return n, io.EOF
	case n == 0:
		return 0, errOrder
	}
	return n, nil
}

// Await waits until Read would not: for who holds no buffer meanwhile.
func (s *Stream) Await() error {
	if err := s.fill(); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// OnReadable calls f once, when Read would not wait: at once if so, else on the goroutine
// that reads the connection, which must not wait, or on one of its own.
func (s *Stream) OnReadable(f func()) {
	c := s.conn
	c.mu.Lock()
	wait := s.now == nil && !s.readyLocked()
	if wait {
		s.onReadable = f
		s.tookLocked()
	}
	c.mu.Unlock()
	if !wait {
		f()
	}
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

// Trailers appends the text of the fields that came behind the body, each with its line
// end, to dst; only after Read has given io.EOF.
func (s *Stream) Trailers(dst []byte) []byte {
	if s.now == nil || s.now.kind != trailers {
		return dst
	}
	dst = append(dst, s.now.buf[s.now.from:s.now.to]...)
	s.next()
	return dst
}

// Ended reports whether nothing follows what was read: right behind the head, that there is
// no body. It does not wait.
func (s *Stream) Ended() bool {
	if s.now != nil || s.last {
		return s.now == nil
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.in.first == nil && s.inEnded
}

// Ready reports whether ReadHead or Read would not wait.
func (s *Stream) Ready() bool {
	if s.now != nil {
		return true
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.readyLocked()
}

func (s *Stream) readyLocked() bool { return s.in.first != nil || s.inEnded || s.err != nil }

// next gives the first chunk back.
func (s *Stream) next() {
	c := s.now
	s.now = c.next
	c.release()
}

// fill waits until there is a chunk in now.
func (s *Stream) fill() error {
	for s.now == nil {
		c := s.conn
		c.mu.Lock()
		s.tookLocked()
		switch {
		case s.in.first != nil:
			s.taking = s.unread
			s.now, s.last = s.in.takeAll(), s.inEnded
		case s.inEnded:
			c.mu.Unlock()
			return io.EOF
		case s.err != nil:
			err := s.err
			c.mu.Unlock()
			return err
		case s.readDeadline.over:
			c.mu.Unlock()
			return os.ErrDeadlineExceeded
		default:
			c.mu.Unlock()
			<-s.readable
			continue
		}
		c.mu.Unlock()
	}
	return nil
}

// giveBack lets the other end send n bytes more, once that is worth a frame.
func (s *Stream) giveBack(n int) {
	if s.taken += n; s.taken < http2.DefaultStreamWindow/worthGivingBack {
		return
	}
	c := s.conn
	c.mu.Lock()
	if !s.inEnded && s.err == nil {
		c.engine.Consumed(s.id, s.taken)
		c.outputLocked()
	}
	s.taken = 0
	c.unlockAndWrite()
}

// SetDeadline sets both deadlines.
func (s *Stream) SetDeadline(t time.Time) error {
	_ = s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// SetReadDeadline ends reads at t with os.ErrDeadlineExceeded; zero: never.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.readDeadline.set(t, s.readDue)
	if s.readDeadline.over {
		signal(s.readable)
	}
	return nil
}

// SetWriteDeadline ends the waits of writes at t with os.ErrDeadlineExceeded; zero: never.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.writeDeadline.set(t, s.writeDue)
	if s.writeDeadline.over {
		signal(s.writable)
	}
	return nil
}

// due is called by a deadline's timer.
func (s *Stream) due(d *deadline, again func(), who chan struct{}) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if d.fired(again) {
		signal(who)
	}
}

// signal wakes who waits on ch, now or next.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
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

// Sent reports whether anything of the stream may have left: else nobody has seen it.
func (s *Stream) Sent() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.id != 0 && s.conn.handed > s.headAt
}

// Answered reports whether a head has come.
func (s *Stream) Answered() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.answered
}

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
		c.appendLocked(c.engine.AppendReset(c.queuedLocked(), s.id, code))
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
		releaseAll(s.in.takeAll())
		s.holdLocked(s.taking)
	}
	if f := s.onReadable; f != nil {
		s.onReadable = nil
		go f()
	}
	signal(s.readable)
	signal(s.writable)
	return true
}
