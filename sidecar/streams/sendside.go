package streams

import (
	"errors"
	"os"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http2"
)

// Field is a field of a head or a trailer section.
type Field struct{ Name, Value []byte }

// sendSide is what a stream sends: its place among those who wait for the connection, and who
// waits there. One goroutine writes.
type sendSide struct {
	stream  *Stream
	corking bool // the writing goroutine's: Cork

	// Guarded by the connection's lock.
	waiter
	outEnded bool   // END_STREAM is queued
	headAt   uint64 // sendQueue.queued before the head
	turn     turn
}

// WriteRequest writes a request's head, on the client's side; with it the stream gets its
// number. end says that nothing follows. Errors: ErrHeadNotTaken, a [*ResetError], or that
// of the stream.
func (w *sendSide) WriteRequest(h *http2.RequestHead, fields []Field, end bool) error {
	if err := w.beginWrite(); err != nil {
		return err
	}
	c := w.stream.conn
	if headSize(h, fields) > c.engine.Peer().MaxHeadSize() {
		c.out.leave(w)
		c.mu.Unlock()
		return ErrHeadNotTaken
	}
	if w.stream.id == 0 {
		id, err := c.engine.OpenStream()
		if err != nil {
			c.goingAway = c.goingAway || !errors.Is(err, http2.ErrStreamLimit)
			c.out.leave(w)
			c.mu.Unlock()
			return &ResetError{Code: http2.RefusedStream, Unprocessed: true, Text: err.Error()}
		}
		w.stream.id, w.headAt = id, c.out.queued
		w.stream.upgrade = append(w.stream.upgrade[:0], h.Protocol...)
		c.engine.Attach(id, w.stream)
	}
	c.out.put(c.engine.BeginRequest(c.out.buffer(), w.stream.id, h))
	w.endHead(fields, end)
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
func (w *sendSide) WriteResponse(status int, fields []Field, end bool) error {
	if err := w.beginWrite(); err != nil {
		return err
	}
	c := w.stream.conn
	c.out.put(c.engine.BeginResponse(c.out.buffer(), w.stream.id, status))
	w.endHead(fields, end)
	return nil
}

// WriteTrailers ends our direction with the fields behind the body.
func (w *sendSide) WriteTrailers(fields []Field) error {
	if err := w.beginWrite(); err != nil {
		return err
	}
	c := w.stream.conn
	c.out.put(c.engine.BeginTrailers(c.out.buffer(), w.stream.id))
	w.endHead(fields, true)
	return nil
}

// beginWrite takes the lock, which endHead gives back, and waits until something may be
// queued. With an error it does not hold the lock.
func (w *sendSide) beginWrite() error {
	w.stream.conn.mu.Lock()
	err := w.awaitTurnLocked()
	if err != nil {
		w.stream.conn.out.leave(w)
		w.stream.conn.mu.Unlock()
	}
	return err
}

// endHead queues the fields behind what was begun, unlocks and sees that it is written.
func (w *sendSide) endHead(fields []Field, end bool) {
	c := w.stream.conn
	b := c.out.buffer()
	for i := range fields {
		b = c.engine.AppendField(b, fields[i].Name, fields[i].Value)
	}
	c.out.put(c.engine.EndHead(b, end))
	w.outEnded = w.outEnded || end
	c.out.leave(w)
	w.unlockAndWrite()
}

// Write writes payload. It returns when all of it is queued, for which it may have to wait: for the
// windows of the stream and of the connection, and for room in the queue.
func (w *sendSide) Write(b []byte) (int, error) { return w.write(b, false) }

// WriteLast writes the last of the payload and ends our direction. Nothing follows, so that what
// waits for Uncork leaves as well.
func (w *sendSide) WriteLast(b []byte) (int, error) {
	w.corking = false
	return w.write(b, true)
}

// CloseWrite ends our direction. What was written before arrives.
func (w *sendSide) CloseWrite() error {
	_, err := w.write(nil, true)
	return err
}

func (w *sendSide) write(b []byte, end bool) (n int, err error) {
	c := w.stream.conn
	c.mu.Lock()
	for {
		if err := w.awaitTurnLocked(); err != nil {
			c.out.leave(w)
			w.unlockAndWrite()
			return n, err
		}
		piece := min(len(b)-n, http2.MaxFrame)
		last := end && n+piece == len(b)
		out, took := c.engine.AppendData(c.out.buffer(), w.stream.id, b[n:n+piece], last)
		c.out.put(out)
		c.out.leave(w) // who has more goes behind those who wait
		n += took
		w.stream.carried += took
		switch {
		case took < piece:
			w.awaitWindowLocked()
		case n == len(b):
			w.outEnded = last
			w.unlockAndWrite()
			return n, nil
		}
	}
}

// Cork lets what is written wait until Uncork, for what follows at once: a head, a small
// body and its end leave together. It is for the goroutine that writes.
func (w *sendSide) Cork() { w.corking = true }

// Uncork lets what was written leave.
func (w *sendSide) Uncork() {
	if !w.corking {
		return
	}
	w.corking = false
	w.stream.conn.mu.Lock()
	w.stream.conn.unlockAndWrite()
}

// unlockAndWrite unlocks and sees that what is queued is written.
func (w *sendSide) unlockAndWrite() {
	if w.corking && w.stream.conn.out.len() < corked {
		w.stream.conn.mu.Unlock()
		return
	}
	w.stream.conn.unlockAndWrite()
}

// SetWriteDeadline ends the waits of writes at t with os.ErrDeadlineExceeded; zero: never.
func (w *sendSide) SetWriteDeadline(t time.Time) error {
	w.stream.conn.mu.Lock()
	defer w.stream.conn.mu.Unlock()
	w.setDeadline(t)
	return nil
}

// Sent reports whether anything of the stream may have left: else nobody has seen it.
func (w *sendSide) Sent() bool {
	c := w.stream.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	return w.stream.id != 0 && c.out.taken > w.headAt
}

// writeErrLocked returns why nothing can be written.
func (w *sendSide) writeErrLocked() error {
	switch {
	case w.stream.err != nil:
		return w.stream.err
	case w.outEnded:
		return os.ErrClosed
	case w.deadline.over:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// awaitTurnLocked waits until w may append to the queue. It unlocks meanwhile.
func (w *sendSide) awaitTurnLocked() error {
	c := w.stream.conn
	for {
		if err := w.writeErrLocked(); err != nil {
			return err
		}
		if c.out.free(w) {
			return nil
		}
		c.out.turns.add(w)
		w.sleepLocked()
	}
}

// sleepLocked waits until something has changed for who writes.
func (w *sendSide) sleepLocked() {
	w.stream.conn.writeElsewhereLocked() // a corked queue would never leave
	w.stream.conn.mu.Unlock()
	<-w.woken
	w.stream.conn.mu.Lock()
}

// awaitWindowLocked waits until a window that was full may not be any more. It unlocks meanwhile.
func (w *sendSide) awaitWindowLocked() {
	c := w.stream.conn
	shared := c.engine.SendWindowFull()
	if shared {
		c.window.wait(time.Now())
	}
	w.sleepLocked()
	if shared {
		c.window.stop(time.Now())
	}
}

// resetLocked makes it the next stream's.
func (w *sendSide) resetLocked() {
	w.stream.conn.out.turns.remove(w)
	w.corking, w.outEnded, w.headAt = false, false, 0
	w.deadline.clear()
}
