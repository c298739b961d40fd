package streams

import (
	"errors"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/http2"
)

// errClosed is how a connection ends in order.
var errClosed = errors.New("the connection is closed")

// Drain ends the connection when the streams that run have ended: it takes no new ones,
// and says so. A server does that such that no stream on its way is lost (RFC 9113 §6.8).
func (c *Conn) Drain() {
	c.mu.Lock()
	if c.err == nil && !c.draining {
		c.draining, c.drainedAt = true, time.Now()
		if c.client {
			c.goingAway = true // the server is told at the end: streams that we have may still be to begin
		} else {
			c.out.put(c.engine.AppendDrain(c.out.buffer()))
		}
		c.endIfDrainedLocked()
	}
	c.unlockAndWriteElsewhere()
}

// endIfDrainedLocked ends a connection that takes no new streams and has none.
func (c *Conn) endIfDrainedLocked() {
	if c.err == nil && c.goingAway && len(c.streams.using) == 0 {
		if c.client {
			c.out.put(c.engine.AppendDrain(c.out.buffer()))
		}
		c.finishLocked(errClosed)
	}
}

// finishLocked ends all streams with err, and the connection when what is queued is written
// and the other end has closed its side: who closes before that may take back what the other
// end has not read yet.
func (c *Conn) finishLocked(err error) (ended []end) {
	if c.err != nil {
		return nil
	}
	ended = c.breakAllLocked(err)
	if !errors.Is(err, errClosed) {
		c.lastWordsLocked()
	}
	c.outputLocked()
	if c.out.len() == 0 && !c.writer.busy {
		c.owned.Go(c.closeWrite)
	}
	c.writeElsewhereLocked()
	return ended
}

// lastWordsLocked bounds what is left of a connection that ends. In order, that is the wait for
// the other end to close, once all is written: the end of an answer may be among it, for a
// client that takes its time.
func (c *Conn) lastWordsLocked() {
	c.endBy = time.Now().Add(goodbyeTimeout)
	_ = c.nc.SetReadDeadline(c.endBy)
}

// closeWrite ends our direction of a connection on which all is said.
func (c *Conn) closeWrite() {
	c.mu.Lock()
	c.lastWordsLocked()
	c.mu.Unlock()
	half, ok := c.nc.(relay.Conn)
	if !ok {
		c.fail(errClosed)
		return
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
	_ = half.CloseWrite()
}

// Abort ends the connection and all of its streams at once; err is why.
func (c *Conn) Abort(err error) {
	relay.Abort(c.nc)
	c.fail(err)
}

// Close ends the connection and waits for its goroutines; who uses its streams on the
// client's side finds it gone. It must not be called by the function of Serve.
func (c *Conn) Close() error {
	c.fail(errClosed)
	c.owned.Wait()
	return nil
}

// fail ends the connection at once. err is why, unless it has ended before.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	ended := c.breakAllLocked(err)
	c.streams.letGo()
	c.upkeep.timer.Stop()
	c.leaveUnreadLocked()
	c.mu.Unlock()
	_ = c.nc.Close()
	close(c.done)
	c.tell(ended)
	if c.cfg.Closed != nil {
		c.cfg.Closed()
	}
}

// leaveUnreadLocked takes a connection that is gone out of those that hold something, once nobody
// uses its streams: a body that had come whole may still be read.
func (c *Conn) leaveUnreadLocked() {
	if c.closed && len(c.streams.using) == 0 {
		c.cfg.Unread.remove(c)
	}
}

// end is a stream's end, of which its user wants to be told.
type end struct {
	s   *Stream
	f   func(error)
	err error
}

// tell tells of ends, without the lock. Streams are not dropped meanwhile.
func (c *Conn) tell(ended []end) {
	if len(ended) == 0 {
		return
	}
	for _, e := range ended {
		e.f(e.err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range ended {
		e.s.telling = false
	}
	c.told.Broadcast()
}

// breakAllLocked ends all streams.
func (c *Conn) breakAllLocked(err error) (ended []end) {
	if c.err != nil {
		return nil
	}
	c.err, c.goingAway = err, true
	gone := &ConnError{err}
	for _, s := range c.streams.using {
		if s.breakLocked(gone) {
			ended = s.toldLocked(ended, gone)
		}
	}
	return ended
}

// Done is closed when the connection is gone.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns why the connection ended; nil while it has not, and when it did in order.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.err, errClosed) {
		return nil
	}
	return c.err
}

// dropLocked ends the use of s, resets what is not over, and keeps it for the next stream.
// It reports whether it does.
func (c *Conn) dropLocked(s *Stream, code http2.Code) bool {
	for s.telling {
		c.told.Wait()
	}
	s.endLocked(code)
	c.streams.remove(s)
	s.resetLocked()
	if len(c.streams.using) == 0 {
		c.quietSince = time.Now()
		c.endIfDrainedLocked()
		c.leaveUnreadLocked()
	}
	if c.closed || s.alone {
		s.stopLocked()
		return false
	}
	c.streams.keep(s)
	return true
}
