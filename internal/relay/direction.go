package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// direction is one of the two of a pair: what is read from src is written to dst. It
// belongs to one goroutine. It holds a buffer only while bytes come: after parkAfter
// without any it waits in the few bytes of small, and takes a buffer again when they do
// not suffice.
type direction struct {
	pair     *pair
	dst, src Conn
	answers  bool // src is the pair's b

	n       int64     // bytes written to dst
	large   *buffer   // nil while it waits
	waiting time.Time // src's read deadline, zero without
	small   [smallSize]byte
}

// run copies to the end of src and passes the end on. It returns the bytes written; an
// error aborts the path.
func (d *direction) run() int64 {
	defer d.park()
	d.large = buffers.Get().(*buffer)
	for d.copyOnce() {
	}
	return d.n
}

// copyOnce moves what one read gives, and reports whether there may be more.
func (d *direction) copyOnce() bool {
	b := d.small[:]
	if d.large != nil {
		b = d.large[:]
		d.extend(parkAfter)
	}
	k, err := d.src.Read(b)
	if k > 0 && !d.write(b[:k]) {
		return false
	}
	switch {
	case err == nil && k < len(b):
		return true
	case err == nil && d.large == nil: // there is more than a little
		d.large = buffers.Get().(*buffer)
		return true
	case err == nil:
		return d.splice()
	case d.large != nil && errors.Is(err, os.ErrDeadlineExceeded):
		d.park()
		return true
	case errors.Is(err, io.EOF):
		return d.end()
	}
	d.pair.abort(fmt.Errorf("read from %s: %w", d.src.RemoteAddr(), err))
	return false
}

// write passes on what was read.
func (d *direction) write(b []byte) bool {
	d.heard()
	d.pair.writing.Add(1)
	n, err := d.dst.Write(b)
	d.pair.writing.Add(-1)
	d.n += int64(n)
	if err != nil {
		d.pair.abort(fmt.Errorf("write to %s: %w", d.dst.RemoteAddr(), err))
		return false
	}
	d.pair.moved.Store(true)
	return true
}

// heard notes that something was read.
func (d *direction) heard() {
	d.pair.moved.Store(true)
	d.pair.stirred.Store(true)
	d.pair.lastWord.Store(d.answers)
}

// end passes the end of src on.
func (d *direction) end() (more bool) {
	if err := d.dst.CloseWrite(); err != nil {
		d.pair.abort(fmt.Errorf("end the stream to %s: %w", d.dst.RemoteAddr(), err))
	}
	return false
}

// extend lets reads wait for at least half of limit and at most limit. A deadline is
// not set anew for each read.
func (d *direction) extend(limit time.Duration) {
	if now := time.Now(); d.waiting.Sub(now) < limit/2 {
		d.waiting = now.Add(limit)
		_ = d.src.SetReadDeadline(d.waiting) // fails on a closed connection only
	}
}

// park gives the buffer back, and lets reads wait for as long as it takes.
func (d *direction) park() {
	if d.large != nil {
		buffers.Put(d.large)
		d.large = nil
	}
	d.unlimit()
}

func (d *direction) unlimit() {
	if !d.waiting.IsZero() {
		d.waiting = time.Time{}
		_ = d.src.SetReadDeadline(time.Time{}) // fails on a closed connection only
	}
}

// splice has the kernel move what comes, while much comes and both ends are plain
// sockets. It reports whether there may be more. It costs a pipe, so that only so many
// do it at a time.
func (d *direction) splice() (more bool) {
	from, to := source(d.src), Socket(d.dst)
	if from == nil || to == nil || !takeSplice() {
		return true
	}
	defer splices.Add(-1)
	defer d.unlimit() // the next read sets its own
	limit := spliceLimit
	if d.pair.idle > 0 {
		limit = min(limit, d.pair.idle/(2*idleTicks))
	}
	for {
		d.waiting = time.Now().Add(limit)
		_ = from.SetReadDeadline(d.waiting) // fails on a closed connection only
		chunk := io.LimitedReader{R: from, N: spliceChunk}
		d.pair.writing.Add(1) // perhaps
		k, err := to.ReadFrom(&chunk)
		d.pair.writing.Add(-1)
		d.n += k
		if k > 0 {
			d.heard()
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if k < bufferSize {
				return true // a buffer serves as well
			}
		case err != nil:
			d.pair.abort(fmt.Errorf("splice from %s to %s: %w", d.src.RemoteAddr(), d.dst.RemoteAddr(), err))
			return false
		case chunk.N > 0:
			return d.end()
		}
	}
}

// Socket returns the TCP connection that carries what is written to c as it is, and
// nothing else; nil when there is none: c is TLS, not TCP, or a socket whose bytes
// go another way (a redirected one, on which splice(2) loses bytes). A Conn that hides
// such a socket says so by a method of this name.
func Socket(c net.Conn) *net.TCPConn {
	switch t := c.(type) {
	case *net.TCPConn:
		return t
	case *prefixed:
		return Socket(t.Conn)
	case interface{ Socket() *net.TCPConn }:
		return t.Socket()
	}
	return nil
}

// source is [Socket] of a connection that the caller reads from: nil also while there
// is something to read before the socket's bytes.
func source(c net.Conn) *net.TCPConn {
	if p, ok := c.(*prefixed); ok {
		if len(p.read) > 0 {
			return nil
		}
		return source(p.Conn)
	}
	return Socket(c)
}

type buffer [bufferSize]byte

// buffers holds *buffer. Like splices it is no state of anybody's: a cache.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

// splices counts the directions that are spliced.
var splices atomic.Int32

// takeSplice counts one more, if it may be. The caller takes it away again.
func takeSplice() bool {
	if splices.Add(1) <= maxSplices {
		return true
	}
	splices.Add(-1)
	return false
}
