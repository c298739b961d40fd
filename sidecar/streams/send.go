package streams

import (
	"errors"

	"github.com/isthmus-mesh/isthmus/sidecar/http2"
)

// Field is a field of a head or a trailer section.
type Field struct{ Name, Value []byte }

// WriteRequest writes a request's head, on the client's side; with it the stream gets its
// number. end says that nothing follows. Errors: ErrHeadNotTaken, a [*ResetError], or that
// of the stream.
func (s *Stream) WriteRequest(h *http2.RequestHead, fields []Field, end bool) error {
	if err := s.beginWrite(); err != nil {
		return err
	}
	c := s.conn
	if headSize(h, fields) > c.engine.Peer().MaxHeadSize() {
		c.leaveTurnsLocked(s)
		c.mu.Unlock()
		return ErrHeadNotTaken
	}
	if s.id == 0 {
		id, err := c.engine.OpenStream()
		if err != nil {
			c.goingAway = c.goingAway || !errors.Is(err, http2.ErrStreamLimit)
			c.leaveTurnsLocked(s)
			c.mu.Unlock()
			return &ResetError{Code: http2.RefusedStream, Unprocessed: true, Text: err.Error()}
		}
		s.id, s.headAt = id, c.queued
		s.upgrade = append(s.upgrade[:0], h.Protocol...)
		c.engine.Attach(id, s)
	}
	c.appendLocked(c.engine.BeginRequest(c.queuedLocked(), s.id, h))
	s.endHead(fields, end)
	return nil
}

func headSize(h *http2.RequestHead, fields []Field) int {
	n := h.Size()
	for i := range fields {
		n += http2.FieldSize(fields[i].Name, fields[i].Value)
	}
	return n
}

// WriteResponse writes an answer's head, interim ones included, on the server's side. end says
// that nothing follows.
func (s *Stream) WriteResponse(status int, fields []Field, end bool) error {
	if err := s.beginWrite(); err != nil {
		return err
	}
	c := s.conn
	c.appendLocked(c.engine.BeginResponse(c.queuedLocked(), s.id, status))
	s.endHead(fields, end)
	return nil
}

// WriteTrailers ends our direction with the fields behind the body.
func (s *Stream) WriteTrailers(fields []Field) error {
	if err := s.beginWrite(); err != nil {
		return err
	}
	c := s.conn
	c.appendLocked(c.engine.BeginTrailers(c.queuedLocked(), s.id))
	s.endHead(fields, true)
	return nil
}

// beginWrite takes the lock, which endHead gives back, and waits until something may be
// queued. With an error it does not hold the lock.
func (s *Stream) beginWrite() error {
	s.conn.mu.Lock()
	err := s.awaitTurnLocked()
	if err != nil {
		s.conn.leaveTurnsLocked(s)
		s.conn.mu.Unlock()
	}
	return err
}

// endHead queues the fields behind what was begun, unlocks and sees that it is written.
func (s *Stream) endHead(fields []Field, end bool) {
	c := s.conn
	b := c.queuedLocked()
	for i := range fields {
		b = c.engine.AppendField(b, fields[i].Name, fields[i].Value)
	}
	c.appendLocked(c.engine.EndHead(b, end))
	s.outEnded = s.outEnded || end
	c.leaveTurnsLocked(s)
	s.unlockAndWrite()
}

// Write writes payload. It returns when all of it is queued, for which it may have to wait: for the
// windows of the stream and of the connection, and for room in the queue.
func (s *Stream) Write(b []byte) (int, error) { return s.write(b, false) }

// WriteLast writes the last of the payload and ends our direction. Nothing follows, so that what
// waits for Uncork leaves as well.
func (s *Stream) WriteLast(b []byte) (int, error) {
	s.held = false
	return s.write(b, true)
}

// CloseWrite ends our direction. What was written before arrives.
func (s *Stream) CloseWrite() error {
	_, err := s.write(nil, true)
	return err
}

func (s *Stream) write(b []byte, end bool) (n int, err error) {
	c := s.conn
	c.mu.Lock()
	for {
		if err := s.awaitTurnLocked(); err != nil {
			c.leaveTurnsLocked(s)
			s.unlockAndWrite()
			return n, err
		}
		piece := min(len(b)-n, http2.MaxFrame)
		last := end && n+piece == len(b)
		out, took := c.engine.AppendData(c.queuedLocked(), s.id, b[n:n+piece], last)
		c.appendLocked(out)
		c.leaveTurnsLocked(s) // who has more goes behind those who wait
		n += took
		s.carried += took
		switch {
		case took < piece:
			s.awaitWindowLocked()
		case n == len(b):
			s.outEnded = last
			s.unlockAndWrite()
			return n, nil
		}
	}
}

// Cork lets what is written wait until Uncork, for what follows at once: a head, a small
// body and its end leave together. It is for the goroutine that writes.
func (s *Stream) Cork() { s.held = true }

// Uncork lets what was written leave.
func (s *Stream) Uncork() {
	if !s.held {
		return
	}
	s.held = false
	s.conn.mu.Lock()
	s.conn.unlockAndWrite()
}

// unlockAndWrite unlocks and sees that what is queued is written.
func (s *Stream) unlockAndWrite() {
	if s.held && s.conn.waitingLocked() < corked {
		s.conn.mu.Unlock()
		return
	}
	s.conn.unlockAndWrite()
}
