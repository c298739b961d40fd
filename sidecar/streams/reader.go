package streams

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http2"
)

// errGone is why streams ended whose connection the other end has closed.
var errGone = errors.New("the other end closed it")

// reader reads a connection, on a goroutine of its own, and has the events of what comes take
// effect. While it reads it holds no lock.
type reader struct {
	conn *Conn
	readBuffer

	event  http2.Event
	text   []byte // of a head
	owners []any

	// What follows once the lock is free.
	woken    []*Stream
	readable []func()
	ended    []end
}

// run reads the connection until it is gone.
func (r *reader) run() {
	c := r.conn
	defer r.idle()
	for {
		n, err := r.more(c.nc)
		quiet := errors.Is(err, os.ErrDeadlineExceeded)
		if quiet {
			r.rest()
		}
		c.mu.Lock()
		used := r.filled // of a connection that ends nothing matters any more
		if c.err == nil {
			var fault error
			r.elapsedLocked(n)
			if used, fault = r.feedLocked(); fault != nil {
				r.ended = append(r.ended, c.finishLocked(fault)...)
			}
		}
		c.upkeep.heard = c.upkeep.heard || n > 0
		if c.upkeep.holding = r.busy; r.busy { // from the next read on
			c.upkeep.start()
		}
		c.outputLocked()
		c.unlockAndWriteElsewhere()
		r.take(used)
		r.tellAll()
		c.cfg.Unread.relieve()
		switch {
		case err == nil:
		case quiet && r.mayRead():
		default:
			c.fail(r.endOfRead(err))
			return
		}
	}
}

// rest lets go of what a connection does not need on which nothing comes: the buffer, with the
// next read, and the room of a large head.
func (r *reader) rest() {
	r.busy = false
	if cap(r.text) > smallChunk {
		r.text = nil
	}
}

// mayRead lifts the deadline for reading, which the tick has set to have the buffer back, and
// reports whether the connection goes on.
func (r *reader) mayRead() bool {
	c := r.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.unwritable != nil {
		return false
	}
	_ = c.nc.SetReadDeadline(time.Time{})
	return true
}

// endOfRead returns why the connection ended, when reading did with err.
func (r *reader) endOfRead(err error) error {
	c := r.conn
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

// feedLocked gives the engine what was read and does what it says. It returns how much the
// engine took.
func (r *reader) feedLocked() (used int, err error) {
	c := r.conn
	for used < r.filled {
		n, err := c.engine.Next(r.buf[used:r.filled], &r.event)
		if err != nil {
			return r.filled, err
		}
		if n == 0 {
			break
		}
		used += n
		r.takeLocked(&r.event)
	}
	if c.out.len() > maxUnread {
		return r.filled, http2.ErrNotReading
	}
	return used, nil
}

// elapsedLocked tells the engine the time, which the tick does while there is something to look
// after: a client's keepalives come on connections without streams, too.
func (r *reader) elapsedLocked(n int) {
	if c := r.conn; !c.upkeep.ticking && n > 0 {
		c.engine.Elapsed(c.upkeep.elapsed(time.Now()))
	}
}

// takeLocked takes in one event.
func (r *reader) takeLocked(ev *http2.Event) {
	c := r.conn
	s, _ := ev.Owner.(*Stream)
	switch ev.Kind {
	case http2.KindHead:
		r.takeHeadLocked(s, ev)
	case http2.KindData:
		if len(ev.Payload) > 0 {
			s.carried += len(ev.Payload)
			s.arriveLocked(payload, ev.Payload)
		}
		r.arrivedLocked(s, ev.End)
	case http2.KindTrailers:
		r.text = ev.Head.AppendTrailersText(r.text[:0])
		s.arriveLocked(trailers, r.text)
		r.arrivedLocked(s, true)
	case http2.KindReset:
		if s != nil && !c.server.takeBackLocked(s) {
			r.breakLocked(s, &ResetError{Code: ev.Code, Remote: !ev.Local, Unprocessed: !ev.Local && ev.Code == http2.RefusedStream, Text: ev.Text})
		}
	case http2.KindGoAway:
		if !c.client {
			return // it is about streams of ours, of which there are none
		}
		c.goingAway = true
		for _, s := range r.ownersLocked(ev.LastStream) {
			s := s.(*Stream)
			c.engine.Forget(s.id)
			r.breakLocked(s, &ResetError{Code: http2.RefusedStream, Remote: true, Unprocessed: true})
		}
		c.endIfDrainedLocked()
	case http2.KindWindow:
		r.windowLocked(s)
	case http2.KindSettings:
		if !c.greeted {
			c.greeted = true
			close(c.ready)
		}
		r.windowLocked(nil)
	case http2.KindDrained:
		c.goingAway = true
		c.endIfDrainedLocked()
	}
}

// takeHeadLocked takes in a head; on the server's side it begins a stream.
func (r *reader) takeHeadLocked(s *Stream, ev *http2.Event) {
	c, what := r.conn, head
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
		if s = c.server.beginLocked(ev); s == nil {
			return
		}
	}
	if !c.client {
		s.scheme = schemeOf(ev.Head)
	}
	s.headCame = true
	s.arriveLocked(what, r.text)
	r.arrivedLocked(s, ev.End)
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
func (r *reader) ownersLocked(above uint32) []any {
	r.owners = r.conn.engine.AppendOwners(r.owners[:0], above)
	return r.owners
}

// arrivedLocked notes that something has come for s; end says that nothing follows.
func (r *reader) arrivedLocked(s *Stream, end bool) {
	s.inEnded = s.inEnded || end
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
func (r *reader) breakLocked(s *Stream, err error) {
	if s.breakLocked(err) {
		r.ended = s.toldLocked(r.ended, err)
	}
	r.arrivedLocked(s, false)
}

// windowLocked wakes who may send more: s, or all.
func (r *reader) windowLocked(s *Stream) {
	if s != nil {
		s.sendSide.wake()
		return
	}
	for _, s := range r.ownersLocked(0) {
		s.(*Stream).sendSide.wake()
	}
}

// tellAll does what follows from what was read, without the lock.
func (r *reader) tellAll() {
	r.conn.server.start()
	for i, s := range r.woken {
		s.wakes = false
		s.receiveSide.wake()
		r.woken[i] = nil
	}
	for i, f := range r.readable {
		f()
		r.readable[i] = nil
	}
	r.conn.tell(r.ended)
	clear(r.ended)
	r.woken, r.readable, r.ended = r.woken[:0], r.readable[:0], r.ended[:0]
}
