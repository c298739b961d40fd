package streams

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http2"
)

// receiveSide is what a stream receives: what has arrived and was not read, and who waits for
// more. One goroutine reads.
type receiveSide struct {
	stream *Stream

	// The reading goroutine's.
	now   *chunk // taken out of in
	taken int    // payload that was read and whose window is not given back yet
	last  bool   // nothing comes after now

	// Guarded by the connection's lock.
	waiter
	in         chunks
	inEnded    bool   // END_STREAM has come
	headCame   bool   // a head has come
	onReadable func() // once
	unread     int    // bytes of memory of in, and of now unless all of that was read
	taking     int    // of them now's
	shed       bool   // it was reset since all streams together held too much

	wakes bool // in reader.woken; the reader's
}

// errOrder is why a head is not read or written: a body comes before it. It is a bug of who
// uses the stream.
var errOrder = errors.New("the stream is not at a head")

// ReadHead waits for the next head and appends its text in the form of HTTP/1.1, empty
// line included, to dst: a request's on the server's side; on the client's each interim
// answer's, then the final one's. It has been validated (RFC 9113 §8).
// end says that nothing follows it: no body and no trailers.
func (r *receiveSide) ReadHead(dst []byte) (_ []byte, end bool, err error) {
	switch err := r.fill(); {
	case errors.Is(err, io.EOF):
		return dst, false, io.ErrUnexpectedEOF
	case err != nil:
		return dst, false, err
	case r.now.kind == largeHead:
		return dst, false, ErrHeadTooLarge
	case r.now.kind != head:
		return dst, false, errOrder
	}
	dst = append(dst, r.now.buf[r.now.from:r.now.to]...)
	r.next()
	return dst, r.Ended(), nil
}

// Read reads payload. At the end of what the other end sends it gives io.EOF, with the last
// of the payload when that end is here already; then the trailers are here as well.
func (r *receiveSide) Read(b []byte) (int, error) {
	if err := r.fill(); err != nil || len(b) == 0 {
		return 0, err
	}
	n := 0
	for n < len(b) && r.now != nil && r.now.kind == payload {
		k := copy(b[n:], r.now.buf[r.now.from:r.now.to])
		n += k
		if r.now.from += k; r.now.from == r.now.to {
			r.next()
		}
	}
	r.giveBack(n)
	switch {
	case r.now == nil && r.Ended(), r.now != nil && r.now.kind == trailers:
		return n, io.EOF
	case n == 0:
		return 0, errOrder
	}
	return n, nil
}

// Await waits until Read would not: for who holds no buffer meanwhile.
func (r *receiveSide) Await() error {
	if err := r.fill(); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// OnReadable calls f once, when Read would not wait: at once if so, else on the goroutine
// that reads the connection, which must not wait, or on one of its own, for which
// [Conn.Close] waits.
func (r *receiveSide) OnReadable(f func()) {
	c := r.stream.conn
	c.mu.Lock()
	wait := r.now == nil && !r.readyLocked()
	if wait {
		r.onReadable = f
		r.tookLocked()
	}
	c.mu.Unlock()
	if !wait {
		f()
	}
}

// Trailers appends the text of the fields that came behind the body, each with its line
// end, to dst; only after Read has given io.EOF.
func (r *receiveSide) Trailers(dst []byte) []byte {
	if r.now == nil || r.now.kind != trailers {
		return dst
	}
	dst = append(dst, r.now.buf[r.now.from:r.now.to]...)
	r.next()
	return dst
}

// Ended reports whether nothing follows what was read: right behind the head, that there is
// no body. It does not wait.
func (r *receiveSide) Ended() bool {
	if r.now != nil || r.last {
		return r.now == nil
	}
	r.stream.conn.mu.Lock()
	defer r.stream.conn.mu.Unlock()
	return r.in.first == nil && r.inEnded
}

// Ready reports whether ReadHead or Read would not wait.
func (r *receiveSide) Ready() bool {
	if r.now != nil {
		return true
	}
	r.stream.conn.mu.Lock()
	defer r.stream.conn.mu.Unlock()
	return r.readyLocked()
}

// Answered reports whether a head has come.
func (r *receiveSide) Answered() bool {
	r.stream.conn.mu.Lock()
	defer r.stream.conn.mu.Unlock()
	return r.headCame
}

func (r *receiveSide) readyLocked() bool {
	return r.in.first != nil || r.inEnded || r.stream.err != nil
}

// next gives the first chunk back.
func (r *receiveSide) next() {
	c := r.now
	r.now = c.next
	c.release()
}

// fill waits until there is a chunk in now.
func (r *receiveSide) fill() error {
	for r.now == nil {
		c := r.stream.conn
		c.mu.Lock()
		r.tookLocked()
		switch {
		case r.in.first != nil:
			r.taking = r.unread
			r.now, r.last = r.in.takeAll(), r.inEnded
		case r.inEnded:
			c.mu.Unlock()
			return io.EOF
		case r.stream.err != nil:
			err := r.stream.err
			c.mu.Unlock()
			return err
		case r.deadline.over:
			c.mu.Unlock()
			return os.ErrDeadlineExceeded
		default:
			c.mu.Unlock()
			<-r.woken
			continue
		}
		c.mu.Unlock()
	}
	return nil
}

// giveBack lets the other end send n bytes more, once that is worth a frame.
func (r *receiveSide) giveBack(n int) {
	if r.taken += n; r.taken < http2.DefaultStreamWindow/worthGivingBack {
		return
	}
	c := r.stream.conn
	c.mu.Lock()
	if !r.inEnded && r.stream.err == nil {
		c.engine.Consumed(r.stream.id, r.taken)
		c.outputLocked()
	}
	r.taken = 0
	c.unlockAndWrite()
}

// SetReadDeadline ends reads at t with os.ErrDeadlineExceeded; zero: never.
func (r *receiveSide) SetReadDeadline(t time.Time) error {
	r.stream.conn.mu.Lock()
	defer r.stream.conn.mu.Unlock()
	r.setDeadline(t)
	return nil
}

// holdLocked notes how much memory holds what was not read.
func (r *receiveSide) holdLocked(n int) {
	if n != r.unread {
		r.stream.conn.held.add(n - r.unread)
		r.unread = n
	}
}

// tookLocked notes that all of now was read.
func (r *receiveSide) tookLocked() {
	r.holdLocked(r.unread - r.taking)
	r.taking = 0
}

// arriveLocked takes in what has come.
func (r *receiveSide) arriveLocked(k kind, b []byte) { r.holdLocked(r.unread + r.in.add(k, b)) }

// discardLocked lets go of what nobody has begun to read.
func (r *receiveSide) discardLocked() {
	releaseAll(r.in.takeAll())
	r.holdLocked(r.taking)
}

// resetLocked makes it the next stream's.
func (r *receiveSide) resetLocked() {
	releaseAll(r.in.takeAll())
	releaseAll(r.now)
	r.holdLocked(0)
	r.now, r.taken, r.last = nil, 0, false
	r.inEnded, r.headCame, r.onReadable, r.taking, r.shed = false, false, nil, 0, false
	r.deadline.clear()
}
