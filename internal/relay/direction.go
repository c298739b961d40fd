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
// belongs to one goroutine at a time. It holds a buffer only while bytes come, a large one
// once a read has filled a medium one. After parkAfter without any it parks: a goroutine
// without a grown stack waits in the few bytes of small, or nobody where src says when there
// is something to read.
type direction struct {
	pair     *pair
	dst, src Conn
	answers  bool // src is the pair's b

	n       int64         // bytes written to dst
	medium  *mediumBuffer // or large, or none while parked
	large   *largeBuffer
	waiting time.Time        // src's read deadline, zero without
	parked  time.Time        // when it was, zero: never
	small   *[smallSize]byte // while parked, unless src says when there is something
}

// notifier is a connection that calls f once, without waiting, when Read would not wait.
type notifier interface{ OnReadable(f func()) }

// next is what follows a read.
type next uint8

const (
	more    next = iota // another read
	another             // another goroutine goes on
	over                // nothing comes any more
)

// run copies to the end of src and passes the end on, or until it parks. An error aborts the
// path.
func (d *direction) run() {
	if d.parked.IsZero() {
		d.medium = mediumBuffers.Get().(*mediumBuffer)
	}
	for {
		switch d.copyOnce() {
		case another:
			return
		case over:
			d.rest()
			d.pair.ended()
			return
		}
	}
}

// copyOnce moves what one read gives.
func (d *direction) copyOnce() next {
	var b []byte
	switch {
	case d.large != nil:
		b = d.large[:]
	case d.medium != nil:
		b = d.medium[:]
	default:
		if d.small == nil {
			d.small = new([smallSize]byte)
		}
		b = d.small[:]
	}
	waits := len(b) == smallSize
	if !waits {
		d.extend(parkAfter)
	}
	k, err := d.src.Read(b)
	if k > 0 && !d.write(b[:k]) {
		return over
	}
	switch {
	case err == nil && waits:
		if k < len(b) && time.Since(d.parked) >= parkAfter { // a little now and then
			return d.park()
		}
		d.medium = mediumBuffers.Get().(*mediumBuffer)
		return more
	case err == nil && k < len(b):
		return more
	case err == nil && d.large == nil:
		d.rest()
		d.large = largeBuffers.Get().(*largeBuffer)
		return more
	case err == nil:
		return d.splice()
	case !waits && errors.Is(err, os.ErrDeadlineExceeded):
		return d.park()
	case errors.Is(err, io.EOF):
		return d.end()
	}
	d.pair.abort(fmt.Errorf("read from %s: %w", d.src.RemoteAddr(), err))
	return over
}

// rest gives the buffer back, and lets reads wait for as long as it takes.
func (d *direction) rest() {
	if d.medium != nil {
		mediumBuffers.Put(d.medium)
		d.medium = nil
	}
	if d.large != nil {
		largeBuffers.Put(d.large)
		d.large = nil
	}
	d.unlimit()
}

// park has another goroutine go on when there is something to read.
func (d *direction) park() next {
	d.rest()
	d.parked = time.Now()
	if src, ok := d.src.(notifier); ok {
		src.OnReadable(func() { go d.run() })
	} else {
		go d.run() // this one's stack has grown
	}
	return another
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
func (d *direction) end() next {
	if err := d.dst.CloseWrite(); err != nil {
		d.pair.abort(fmt.Errorf("end the stream to %s: %w", d.dst.RemoteAddr(), err))
	}
	return over
}

// extend lets reads wait for at least half of limit and at most limit. A deadline is
// not set anew for each read.
func (d *direction) extend(limit time.Duration) {
	if now := time.Now(); d.waiting.Sub(now) < limit/2 {
		d.waiting = now.Add(limit)
		_ = d.src.SetReadDeadline(d.waiting) // fails on a closed connection only
	}
}

func (d *direction) unlimit() {
	if !d.waiting.IsZero() {
		d.waiting = time.Time{}
		_ = d.src.SetReadDeadline(time.Time{}) // fails on a closed connection only
	}
}

// splice has the kernel move what comes, while much comes and both ends are plain
// sockets. It costs a pipe, so that only so many do it at a time.
func (d *direction) splice() next {
	from, to := source(d.src), Socket(d.dst)
	if from == nil || to == nil || !takeSplice() {
		return more
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
			if k < largeSize {
				return more // a buffer serves as well
			}
		case err != nil:
			d.pair.abort(fmt.Errorf("splice from %s to %s: %w", d.src.RemoteAddr(), d.dst.RemoteAddr(), err))
			return over
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

type (
	mediumBuffer [mediumSize]byte
	largeBuffer  [largeSize]byte
)

// The buffers that nobody has. Like splices they are no state of anybody's: a cache.
var (
	mediumBuffers = sync.Pool{New: func() any { return new(mediumBuffer) }}
	largeBuffers  = sync.Pool{New: func() any { return new(largeBuffer) }}
)

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
