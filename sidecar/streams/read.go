package streams

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/sidecar/http2"
)

// errGone is why streams ended whose connection the other end has closed.
var errGone = errors.New("the other end closed it")

// reader is what the goroutine that reads a connection has.
type reader struct {
	buf    []byte // small, or pooled; nil: none
	filled int    // buf[:filled] was read and not taken yet
	small  []byte // smallRead bytes, of a connection that cannot be asked whether it is readable
	pooled *[]byte
	busy   bool // something has come since the tick found that nothing does
	await  awaiter

	event  http2.Event
	text   []byte // of a head
	owners []any

	// What follows once the lock is free.
	woken    []*Stream
	readable []func()
	ended    []end
	began    []*Stream
}

var largeReads = sync.Pool{New: func() any { b := make([]byte, largeRead); return &b }}

// read reads the connection until it is gone.
func (c *Conn) read() {
	r := &c.reader
	defer r.idle()
	for {
		n, err := r.more(c.nc)
		c.mu.Lock()
		used := r.filled // of a connection that ends nothing matters any more
		if c.err == nil {
			var fault error
			c.elapsedLocked(n)
			if used, fault = c.feedLocked(); fault != nil {
				r.ended = append(r.ended, c.finishLocked(fault)...)
			}
		}
		c.heard = c.heard || n > 0
		c.holdLocked(r.pooled != nil)
		c.outputLocked()
		c.unlockAndWriteElsewhere()
		r.filled = copy(r.buf, r.buf[used:r.filled])
		c.tellAll()
		c.cfg.Unread.relieve()
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && c.mayRead():
			r.busy = false
		default:
			c.fail(c.endOfRead(err))
			return
		}
	}
}

// mayRead lifts the deadline for reading, which the tick has set to have the buffer back, and
// reports whether the connection goes on.
func (c *Conn) mayRead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.unwritable != nil {
		return false
	}
	_ = c.nc.SetReadDeadline(time.Time{})
	return true
}

// endOfRead returns why the connection ended, when reading did with err.
func (c *Conn) endOfRead(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return c.err
	case c.unwritable != nil:
		return c.unwritable
	case !errors.Is(err, io.EOF):
		return err
	case c.engine.Streams() == 0:
		return errClosed
	}
	return errGone
}

// more reads behind what is left in buf.
func (r *reader) more(nc net.Conn) (int, error) {
	if err := r.room(nc); err != nil {
		return 0, err
	}
	n, err := nc.Read(r.buf[r.filled:])
	r.filled += n
	r.busy = r.busy || n > 0
	return n, err
}

// room sees that there is a buffer: a large one while something comes; else none on a
// connection that can be asked, and a small one on others.
func (r *reader) room(nc net.Conn) error {
	if r.filled == 0 && !r.busy {
		r.idle()
		tcp, ok := nc.(*net.TCPConn)
		if !ok {
			if r.small == nil {
				r.small = make([]byte, smallRead)
			}
			r.buf = r.small
			return nil
		}
		if err := r.await.readable(tcp); err != nil {
			return err
		}
	}
	if r.pooled == nil {
		r.pooled = largeReads.Get().(*[]byte)
		copy(*r.pooled, r.buf[:r.filled])
		r.buf = *r.pooled
	}
	return nil
}

// idle gives the buffer back.
func (r *reader) idle() {
	r.buf = nil
	if r.pooled != nil {
		largeReads.Put(r.pooled)
		r.pooled = nil
	}
}

// awaiter waits for a socket without a buffer, and without an allocation each time.
type awaiter struct {
	raw  syscall.RawConn
	look func(fd uintptr) bool
	poll [1]unix.PollFd
}

// readable waits until conn has something to read, its end included, or until its read
// deadline.
func (a *awaiter) readable(conn *net.TCPConn) error {
	if a.raw == nil {
		raw, err := conn.SyscallConn()
		if err != nil {
			return err
		}
		a.raw = raw
		a.look = func(fd uintptr) bool {
			a.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
			n, err := unix.Poll(a.poll[:], 0)
			return n != 0 && !errors.Is(err, unix.EINTR)
		}
	}
	return a.raw.Read(a.look)
}

// holdLocked notes whether the reader has a large buffer: the tick has it back.
func (c *Conn) holdLocked(holds bool) {
	c.holding = holds
	if holds && !c.ticking {
		c.ticking = true
		c.timer.Reset(tick)
	}
}

// feedLocked gives the engine what was read and does what it says. It returns how much the
// engine took.
func (c *Conn) feedLocked() (used int, err error) {
	r := &c.reader
	for used < r.filled {
		n, err := c.engine.Next(r.buf[used:r.filled], &r.event)
		if err != nil {
			return r.filled, err
		}
		if n == 0 {
			break
		}
		used += n
		c.takeLocked(&r.event)
	}
	if c.waitingLocked() > maxUnread {
		return r.filled, http2.ErrNotReading
	}
	return used, nil
}

// elapsedLocked tells the engine the time, which the tick does while there is something to look
// after: a client's keepalives come on connections without streams, too.
func (c *Conn) elapsedLocked(n int) {
	if c.ticking || n == 0 {
		return
	}
	now := time.Now()
	c.engine.Elapsed(now.Sub(c.tickedAt))
	c.tickedAt = now
}

// takeLocked takes in one event.
func (c *Conn) takeLocked(ev *http2.Event) {
	r := &c.reader
	s, _ := ev.Owner.(*Stream)
	switch ev.Kind {
	case http2.KindHead:
		c.takeHeadLocked(s, ev)
	case http2.KindData:
		if len(ev.Payload) > 0 {
			s.carried += len(ev.Payload)
			s.holdLocked(s.unread + s.in.add(payload, ev.Payload))
		}
		c.arrivedLocked(s, ev.End)
	case http2.KindTrailers:
		r.text = ev.Head.AppendTrailersText(r.text[:0])
		s.holdLocked(s.unread + s.in.add(trailers, r.text))
		c.arrivedLocked(s, true)
	case http2.KindReset:
		if s != nil && !c.takeBackLocked(s) {
			c.breakLocked(s, &ResetError{Code: ev.Code, Remote: !ev.Local, Unprocessed: !ev.Local && ev.Code == http2.RefusedStream, Text: ev.Text})
		}
	case http2.KindGoAway:
		if !c.client {
			return // it is about streams of ours, of which there are none
		}
		c.goingAway = true
		for _, s := range c.ownersLocked(ev.LastStream) {
			s := s.(*Stream)
			c.engine.Forget(s.id)
			c.breakLocked(s, &ResetError{Code: http2.RefusedStream, Remote: true, Unprocessed: true})
		}
		c.endIfDrainedLocked()
	case http2.KindWindow:
		c.windowLocked(s)
	case http2.KindSettings:
		if !c.greeted {
			c.greeted = true
			close(c.ready)
		}
		c.windowLocked(nil)
	case http2.KindDrained:
		c.goingAway = true
		c.endIfDrainedLocked()
	}
}

// takeHeadLocked takes in a head; on the server's side it begins a stream.
func (c *Conn) takeHeadLocked(s *Stream, ev *http2.Event) {
	r, what := &c.reader, head
	switch {
	case ev.Head.TooLarge:
		what, r.text = largeHead, r.text[:0]
	case c.client:
		var upgrade []byte
		if len(s.upgrade) > 0 {
			upgrade = s.upgrade
		}
		r.text = ev.Head.AppendResponseText(r.text[:0], upgrade)
	default:
		r.text = ev.Head.AppendRequestText(r.text[:0])
	}
	if s == nil {
		if s = c.beginLocked(ev); s == nil {
			return
		}
	}
	if !c.client {
		s.scheme = schemeOf(ev.Head)
	}
	s.answered = true
	s.holdLocked(s.unread + s.in.add(what, r.text))
	c.arrivedLocked(s, ev.End)
}

// schemeOf returns a request's scheme, without an allocation.
func schemeOf(h *http2.Head) string {
	switch string(h.Scheme()) {
	case "http":
		return "http"
	case "https":
		return "https"
	}
	return ""
}

// ownersLocked returns the streams above a number.
func (c *Conn) ownersLocked(above uint32) []any {
	c.reader.owners = c.engine.AppendOwners(c.reader.owners[:0], above)
	return c.reader.owners
}

// arrivedLocked notes that something has come for s; end says that nothing follows.
func (c *Conn) arrivedLocked(s *Stream, end bool) {
	s.inEnded = s.inEnded || end
	r := &c.reader
	if f := s.onReadable; f != nil {
		s.onReadable = nil
		r.readable = append(r.readable, f)
	}
	if !s.wakes {
		s.wakes = true
		r.woken = append(r.woken, s)
	}
}

// breakLocked ends a stream because the other end has.
func (c *Conn) breakLocked(s *Stream, err error) {
	if s.breakLocked(err) {
		c.reader.ended = s.toldLocked(c.reader.ended, err)
	}
	c.arrivedLocked(s, false)
}

// windowLocked wakes who may send more: s, or all.
func (c *Conn) windowLocked(s *Stream) {
	if s != nil {
		signal(s.writable)
		return
	}
	for _, s := range c.ownersLocked(0) {
		signal(s.(*Stream).writable)
	}
}

// tellAll does what follows from what was read, without the lock.
func (c *Conn) tellAll() {
	r := &c.reader
	for i, s := range r.began {
		c.start(s)
		r.began[i] = nil
	}
	for i, s := range r.woken {
		s.wakes = false
		signal(s.readable)
		r.woken[i] = nil
	}
	for i, f := range r.readable {
		f()
		r.readable[i] = nil
	}
	c.tell(r.ended)
	clear(r.ended)
	r.began, r.woken, r.readable, r.ended = r.began[:0], r.woken[:0], r.readable[:0], r.ended[:0]
}
