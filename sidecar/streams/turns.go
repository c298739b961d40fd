package streams

import (
	"os"
	"time"
)

// turn is a stream's place in turns.
type turn struct {
	waits bool
	next  *Stream
}

// turns are the streams whose payload waits for the connection: for its window, for room in the
// queue, or for those before them. Who has written a frame's worth and has more goes to the
// end. The connection's lock guards them.
type turns struct{ first, last *Stream }

func (c *Conn) waitTurnLocked(s *Stream) {
	if c.limitedSince.IsZero() {
		c.limitedSince = time.Now()
	}
	c.turns.add(s)
}

func (t *turns) add(s *Stream) {
	s.turn = turn{waits: true}
	if t.last == nil {
		t.first = s
	} else {
		t.last.turn.next = s
	}
	t.last = s
}

func (t *turns) remove(s *Stream) {
	if !s.turn.waits {
		return
	}
	var before *Stream
	for x := t.first; x != s; x = x.turn.next {
		before = x
	}
	if before == nil {
		t.first = s.turn.next
	} else {
		before.turn.next = s.turn.next
	}
	if t.last == s {
		t.last = before
	}
	s.turn = turn{}
}

// wakeTurnLocked wakes who is next, if there is room in the queue.
func (c *Conn) wakeTurnLocked() {
	if s := c.turns.first; s != nil && c.waitingLocked() < maxQueue {
		signal(s.writable)
	}
}

// leaveTurnsLocked ends s's place and wakes who is next.
func (c *Conn) leaveTurnsLocked(s *Stream) {
	if s.turn.waits {
		c.turns.remove(s)
	}
	if c.turns.first == nil {
		c.limitedSince = time.Time{}
	}
	c.wakeTurnLocked()
}

// writeErrLocked returns why nothing can be written.
func (s *Stream) writeErrLocked() error {
	switch {
	case s.err != nil:
		return s.err
	case s.outEnded:
		return os.ErrClosed
	case s.writeDeadline.over:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// awaitTurnLocked waits until s may append to the queue. It unlocks meanwhile.
func (s *Stream) awaitTurnLocked() error {
	c := s.conn
	for {
		if err := s.writeErrLocked(); err != nil {
			return err
		}
		first := c.turns.first
		if c.waitingLocked() < maxQueue && (first == nil || first == s) {
			return nil
		}
		if !s.turn.waits {
			c.waitTurnLocked(s)
		}
		s.sleepLocked()
	}
}

// sleepLocked waits until something has changed for who writes.
func (s *Stream) sleepLocked() {
	s.conn.writeElsewhereLocked() // a corked queue would never leave
	s.conn.mu.Unlock()
	<-s.writable
	s.conn.mu.Lock()
}
