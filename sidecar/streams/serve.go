package streams

import "github.com/isthmus-mesh/isthmus/sidecar/http2"

// Serve reads the connection, on the caller's goroutine, until it is gone, and calls f for
// each stream on a goroutine of its own. f has the stream until it returns: what is not over
// then is reset. Serve returns when all have, with why the connection ended; nil: in order.
func (c *Conn) Serve(f func(*Stream)) error {
	return c.ServeRest(func(s *Stream) Rest {
		f(s)
		return nil
	})
}

// Rest is what is left of a stream that needs no goroutine of its own any more: it returns at
// once, and over is called when the stream is not used any more. nil: it is not now.
type Rest func(over func())

// ServeRest is [Conn.Serve] for streams that may be idle for long: what f returns goes on
// when f has returned, and Serve waits for it, too.
func (c *Conn) ServeRest(f func(*Stream) Rest) error {
	c.mu.Lock()
	c.serve = f
	c.appendLocked(c.engine.Start(c.queuedLocked()))
	c.unlockAndWriteElsewhere()
	c.read()
	c.owned.Wait()
	return c.Err()
}

// beginLocked returns the stream that begins with the head in ev; nil: it is refused.
func (c *Conn) beginLocked(ev *http2.Event) *Stream {
	if len(c.using) >= runningMultiple*int(c.cfg.MaxStreams) {
		c.appendLocked(c.engine.AppendReset(c.queuedLocked(), ev.Stream, http2.RefusedStream))
		return nil
	}
	s := c.reuseLocked()
	if s == nil {
		s = newStream(c)
		s.begin = make(chan struct{}, 1)
	}
	c.useLocked(s)
	s.id = ev.Stream
	c.engine.Attach(s.id, s)
	c.reader.began = append(c.reader.began, s)
	s.beganAt = len(c.reader.began)
	return s
}

// start lets a stream's goroutine serve it.
func (c *Conn) start(s *Stream) {
	s.beganAt = 0
	if !s.runs {
		s.runs = true
		c.owned.Go(s.run)
	}
	signal(s.begin)
}

// takeBackLocked ends a stream that was reset in the read in which it began, and reports
// whether it was: nobody has it yet, so that a rapid reset makes no goroutine and wakes none.
func (c *Conn) takeBackLocked(s *Stream) bool {
	if s.beganAt == 0 {
		return false
	}
	began := c.reader.began
	last := len(began) - 1
	began[s.beganAt-1] = began[last]
	began[last].beganAt = s.beganAt
	began[last] = nil
	c.reader.began, s.beganAt = began[:last], 0
	s.inEnded, s.outEnded = true, true // the engine has closed it
	c.dropLocked(s, http2.Cancel)
	return true
}

// run is the goroutine of a stream on the server's side, and of those that the struct serves
// after it.
func (s *Stream) run() {
	for range s.begin {
		if s.Err() != nil { // reset right behind its head: nobody waits for what it would cost
			if !s.served(false) {
				return
			}
			continue
		}
		if rest := s.conn.serve(s); rest != nil {
			s.conn.owned.Add(1)
			rest(func() {
				s.served(true)
				s.conn.owned.Done()
			})
			return
		}
		if !s.served(false) {
			return
		}
	}
}

// served ends the use of s, and reports whether it is kept for the next stream. One whose
// goroutine is gone is not.
func (s *Stream) served(alone bool) bool {
	c := s.conn
	c.mu.Lock()
	code := http2.InternalError
	if s.outEnded {
		code = http2.NoError // the answer is complete, and what is left of the request is not wanted (RFC 9113 §8.1)
	}
	s.alone = alone
	kept := c.dropLocked(s, code)
	c.unlockAndWrite()
	return kept
}
