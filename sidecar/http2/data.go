package http2

// What the peer sends.

// dataFrame is the DATA frame that is being read.
type dataFrame struct {
	active bool
	end    bool
	stream uint32
	left   int // payload to come
	pad    int // padding to come
}

// startData reads the header of a DATA frame and what of the rest is there.
func (c *Conn) startData(h frameHeader, in []byte, ev *Event) (int, error) {
	switch {
	case h.stream == 0:
		return 0, ErrStreamZero
	case c.idle(h.stream):
		return 0, ErrIdleStream
	}
	n, pad := frameHeaderSize, 0
	if h.has(flagPadded) {
		if h.length == 0 {
			return 0, ErrFrameLength
		}
		if len(in) == n {
			return 0, nil
		}
		if pad = int(in[n]); pad >= h.length {
			return 0, ErrPadding
		}
		n++
	}
	c.data = dataFrame{active: true, end: h.has(flagEndStream), stream: h.stream, left: h.length - pad - (n - frameHeaderSize), pad: pad}
	// All of the frame counts for flow control, padding included (RFC 9113 §6.9.1).
	if err := c.countArrived(int64(h.length)); err != nil {
		return 0, err
	}
	switch {
	case c.data.left > 0:
		c.budgets.moved()
	case !c.data.end:
		if err := c.budgets.spend(empty); err != nil {
			return 0, err
		}
	}
	s := c.streams.find(h.stream)
	switch {
	case s == nil && c.recent.how(h.stream) != closedHere:
		return n, c.dataFault(StreamClosed, "DATA on a closed stream", ev)
	case s == nil:
		if err := c.budgets.spend(useless); err != nil {
			return 0, err
		}
	default:
		if code, text := s.countArrived(h.length, &c.data, c.server); text != "" {
			return n, c.dataFault(code, text, ev)
		}
		c.giveBack(s, int64(h.length-c.data.left))
	}
	return n + c.nextData(in[n:], ev), nil
}

// dataFault resets the stream of the DATA frame, of which the rest is passed over.
func (c *Conn) dataFault(code Code, text string, ev *Event) error {
	c.data.active = c.data.left+c.data.pad > 0
	return c.streamFault(c.data.stream, code, text, ev)
}

// countArrived says what is wrong with a DATA frame, of which length is all that counts
// for flow control.
func (s *stream) countArrived(length int, d *dataFrame, server bool) (Code, string) {
	payload := int64(d.left)
	switch {
	case s.remoteEnd:
		return StreamClosed, "DATA behind the end of its stream"
	case !server && !s.headCame:
		return ProtocolError, "DATA before a response"
	case int64(length) > s.received:
		return FlowControlError, "DATA beyond the stream's window"
	case s.bodiless && payload > 0:
		return ProtocolError, "DATA in an answer that has none"
	case s.length >= 0 && payload > s.length:
		return ProtocolError, "more DATA than content-length says"
	case s.length > payload && d.end && !s.bodiless:
		return ProtocolError, "less DATA than content-length says"
	}
	s.received -= int64(length)
	if s.length >= 0 {
		s.length -= payload
	}
	return NoError, ""
}

// nextData gives what has arrived of the DATA frame.
func (c *Conn) nextData(in []byte, ev *Event) int {
	d := &c.data
	n := min(d.left, len(in))
	payload := in[:n]
	d.left -= n
	if d.left == 0 {
		pad := min(d.pad, len(in)-n)
		d.pad -= pad
		n += pad
	}
	whole := d.left == 0 && d.pad == 0
	d.active = !whole
	end := whole && d.end
	if len(payload) == 0 && !end {
		return n
	}
	s := c.streams.find(d.stream)
	if s == nil {
		return n // it was reset
	}
	*ev = Event{Kind: KindData, Stream: s.id, Owner: s.owner, Payload: payload, End: end}
	if end {
		c.endRemote(s)
	}
	return n
}

// countArrived takes bytes off the connection's window and gives them back.
func (c *Conn) countArrived(n int64) error {
	if n > c.received {
		return ErrWindowOverrun
	}
	c.received -= n
	c.arrived += n
	if c.arrived >= ConnWindow/2 {
		c.pending = appendUint32Frame(c.pending, frameWindowUpdate, 0, uint32(c.arrived))
		c.received += c.arrived
		c.arrived = 0
	}
	return nil
}

// Consumed says that a reader has taken n bytes of the stream's payload: the peer may
// send as many more. It is told in Output once it is half of the window, which grows
// when the peer has nearly filled it meanwhile.
func (c *Conn) Consumed(id uint32, n int) {
	if s := c.streams.find(id); s != nil {
		c.giveBack(s, int64(n))
	}
}

func (c *Conn) giveBack(s *stream, n int64) {
	s.consumed += n
	if s.remoteEnd || s.consumed < s.size/2 || s.consumed == 0 {
		return
	}
	back := s.consumed + c.grow(s)
	c.pending = appendUint32Frame(c.pending, frameWindowUpdate, s.id, uint32(back))
	s.received += back
	s.consumed = 0
}

// grow enlarges the window of a stream that waits for it, and returns by how much. One that
// is not read never comes here.
func (c *Conn) grow(s *stream) int64 {
	if s.received >= s.size/4 {
		return 0
	}
	by := max(0, min(s.size, GrownStreamWindow-s.size, c.growth))
	s.size += by
	c.growth -= by
	return by
}
