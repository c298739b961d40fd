package relay

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/epoll"
)

// direction is one of the two of a pair: what is read from src is written to dst. It
// belongs to one goroutine at a time. It holds a buffer only while bytes come, a large one
// once a read has filled a medium one. After parkAfter without any it parks: nobody waits where
// src says when there is something to read, or is a plain socket, which waits with others in the
// pair's epoll set; else a goroutine without a grown stack does, in the few bytes of small.
type direction struct {
	pair     *Pair
	dst, src Conn
	answers  bool // src is the pair's b

	n       int64         // bytes written to dst
	medium  *mediumBuffer // or large, or none while parked
	large   *largeBuffer
	waiting time.Time        // src's read deadline, zero without
	parked  time.Time        // when it was, zero: never
	small   *[smallSize]byte // while parked in a Read
	woken   bool             // the next Read does not wait, after parking
	place   epoll.Place      // in pair.waiting
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
	if d.parked.IsZero() || d.woken {
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
	unbounded := len(b) == smallSize || d.woken
	if !unbounded {
		d.extend(parkAfter)
	}
	d.woken = false
	k, err := d.src.Read(b)
	if k > 0 && !d.write(b[:k]) {
		return over
	}
	switch {
	case err == nil && unbounded && k < smallSize && time.Since(d.parked) >= parkAfter: // a little now and then
		return d.park()
	case err == nil && d.medium == nil && d.large == nil:
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
	case !unbounded && errors.Is(err, os.ErrDeadlineExceeded):
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
	d.woken = true
	if src, ok := Source(d.src).(notifier); ok {
		src.OnReadable(d.goOn)
	} else if !d.pair.wait(d) {
		d.woken = false
		go d.run() // this one's stack has grown
	}
	return another
}

// goOn has another goroutine go on.
func (d *direction) goOn() { go d.run() }

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

type (
	mediumBuffer [mediumSize]byte
	largeBuffer  [largeSize]byte
)

// The buffers that nobody has. They are no state of anybody's: a cache.
var (
	mediumBuffers = sync.Pool{New: func() any { return new(mediumBuffer) }}
	largeBuffers  = sync.Pool{New: func() any { return new(largeBuffer) }}
)
