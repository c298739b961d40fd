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
	c.server.serve = f
	c.out.put(c.engine.Start(c.out.buffer()))
	c.unlockAndWriteElsewhere()
	c.reader.run()
	c.owned.Wait()
	return c.Err()
}

// server begins the streams of a client, and has their goroutines.
type server struct {
	conn  *Conn
	serve func(*Stream) Rest // of ServeRest
	began []*Stream          // they start at the end of the read; the reader's
}

// beginLocked returns the stream that begins with the head in ev; nil: it is refused.
func (v *server) beginLocked(ev *http2.Event) *Stream {
	c := v.conn
	if len(c.streams.using) >= runningMultiple*int(c.cfg.MaxStreams) {
		c.out.put(c.engine.AppendReset(c.out.buffer(), ev.Stream, http2.RefusedStream))
		return nil
	}
	s := c.streams.reuse()
	if s == nil {
		s = newStream(c)
		s.begin = make(chan struct{}, 1)
	}
	c.useLocked(s)
	s.id = ev.Stream
	c.engine.Attach(s.id, s)
	v.began = append(v.began, s)
	s.beganAt = len(v.began)
	return s
}

// takeBackLocked ends a stream that was reset in the read in which it began, and reports
// whether it was: nobody has it yet, so that a rapid reset makes no goroutine and wakes none.
func (v *server) takeBackLocked(s *Stream) bool {
	if s.beganAt == 0 {
		return false
	}
	last := len(v.began) - 1
	v.began[s.beganAt-1] = v.began[last]
	v.began[last].beganAt = s.beganAt
	v.began[last] = nil
	v.began, s.beganAt = v.began[:last], 0
	s.inEnded, s.outEnded = true, true // the engine has closed it
	v.conn.dropLocked(s, http2.Cancel)
	return true
}

// start lets the goroutines of the streams that have begun serve them. It is called without the
// lock, at the end of a read.
func (v *server) start() {
	for i, s := range v.began {
		s.beganAt = 0
		if !s.runs {
			s.runs = true
			v.conn.owned.Go(func() { v.run(s) })
		}
		signal(s.begin)
		v.began[i] = nil
	}
	v.began = v.began[:0]
}

// run is the goroutine of s, and of the streams that the struct is after it.
func (v *server) run(s *Stream) {
	for range s.begin {
		if s.Err() != nil { // reset right behind its head: nobody waits for what it would cost
			if !v.served(s, false) {
				return
			}
			continue
		}
		if rest := v.serve(s); rest != nil {
			v.conn.owned.Add(1)
			rest(func() {
				v.served(s, true)
				v.conn.owned.Done()
			})
			return
		}
		if !v.served(s, false) {
			return
		}
	}
}

// served ends the use of s, and reports whether it is kept for the next stream. One that is alone,
// whose goroutine is gone, is not.
func (v *server) served(s *Stream, alone bool) bool {
	c := v.conn
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
