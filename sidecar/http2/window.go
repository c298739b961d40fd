package http2

// What we may send.

func (c *Conn) receiveWindowUpdate(h frameHeader, p []byte, ev *Event) error {
	if len(p) != 4 {
		return ErrFrameLength
	}
	if err := c.budgets.spend(windows); err != nil {
		return err
	}
	by := int64(be32(p) &^ (1 << 31))
	if h.stream == 0 {
		switch {
		case by == 0:
			return ErrWindowZero
		case c.window+by > maxWindow:
			return ErrWindowTooFar
		}
		c.window += by
		if c.waiting && c.window > 0 {
			c.waiting = false
			ev.Kind = KindWindow
		}
		return nil
	}
	if c.idle(h.stream) {
		return ErrIdleStream
	}
	s := c.streams.find(h.stream)
	switch {
	case s == nil:
		return nil // RFC 9113 §5.1: it may have been on its way
	case by == 0:
		return c.streamFault(s.id, ProtocolError, "WINDOW_UPDATE by 0", ev)
	case s.window+by > maxWindow:
		return c.streamFault(s.id, FlowControlError, "window beyond 2³¹-1", ev)
	}
	s.window += by
	if s.waiting && s.window > 0 {
		s.waiting = false
		*ev = Event{Kind: KindWindow, Stream: s.id, Owner: s.owner}
	}
	return nil
}

// shiftWindows changes the windows of all streams, which may become negative
// (RFC 9113 §6.9.2). KindSettings is told anyway: a driver tries all that wait.
func (c *Conn) shiftWindows(by int64) error {
	for _, s := range c.streams.slots {
		if s == nil {
			continue
		}
		if s.window+by > maxWindow {
			return ErrWindowTooFar
		}
		s.window += by
	}
	return nil
}

// AppendData appends as much of payload as windows allow, in frames that the peer takes,
// and returns how much that is; end says that the stream ends behind payload, and
// takes effect once all of it is appended. After less than len(payload) KindWindow (or
// KindSettings) says when to try again. Payload for a stream that is closed counts as
// taken: its end was told.
func (c *Conn) AppendData(out []byte, id uint32, payload []byte, end bool) ([]byte, int) {
	out = c.Output(out)
	s := c.streams.find(id)
	if s == nil || s.localEnd {
		return out, len(payload)
	}
	sent := 0
	for {
		n := min(len(payload)-sent, MaxFrame) // every peer takes that; a TLS record holds no more
		if n > 0 {
			n = int(min(int64(n), s.window, c.window))
			if n <= 0 {
				s.waiting = s.waiting || s.window <= 0
				c.waiting = c.waiting || c.window <= 0
				return out, sent
			}
		} else if !end {
			return out, sent
		}
		var flags uint8
		last := sent+n == len(payload)
		if last && end {
			flags = flagEndStream
		}
		out = appendFrameHeader(out, n, frameData, flags, id)
		out = append(out, payload[sent:sent+n]...)
		sent += n
		s.window -= int64(n)
		c.window -= int64(n)
		if n > 0 {
			c.budgets.moved()
		}
		if last {
			if end {
				c.endLocal(s)
			}
			return out, sent
		}
	}
}

// SendWindow returns how many bytes of payload AppendData would take for the stream.
func (c *Conn) SendWindow(id uint32) int {
	s := c.streams.find(id)
	if s == nil {
		return 0
	}
	return int(max(0, min(s.window, c.window)))
}

// SendWindowFull reports whether the peer takes no more payload on any stream, until it says
// so by KindWindow.
func (c *Conn) SendWindowFull() bool { return c.window <= 0 }
