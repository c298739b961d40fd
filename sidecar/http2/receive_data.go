package http2

// dataFrame is the DATA frame that is being read: its payload is passed on as it comes.
type dataFrame struct {
	active bool
	end    bool
	stream uint32
	left   int // payload to come
	pad    int // padding to come
}

// begin reads the header of a frame, h, that in begins with, and the length of its padding. It
// returns how many bytes that is, 0 while they are not there.
func (d *dataFrame) begin(h frameHeader, in []byte) (n int, err error) {
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
	*d = dataFrame{active: true, end: h.has(flagEndStream), stream: h.stream, left: h.length - pad - (n - frameHeaderSize), pad: pad}
	return n, nil
}

// read reads what in has of the frame, n bytes. end says that they are its last ones and that it
// ends its stream.
func (d *dataFrame) read(in []byte) (payload []byte, n int, end bool) {
	n = min(d.left, len(in))
	payload = in[:n]
	d.left -= n
	if d.left == 0 {
		pad := min(d.pad, len(in)-n)
		d.pad -= pad
		n += pad
	}
	d.active = d.left > 0 || d.pad > 0
	return payload, n, !d.active && d.end
}

// startData reads the header of a DATA frame and what of the rest is there.
func (r *receiver) startData(h frameHeader, in []byte, ev *Event) (int, error) {
	c, d := r.conn, &r.data
	switch {
	case h.stream == 0:
		return 0, ErrStreamZero
	case c.streams.idle(h.stream):
		return 0, ErrIdleStream
	}
	n, err := d.begin(h, in)
	if n == 0 {
		return 0, err
	}
	// All of the frame counts for flow control, padding included (RFC 9113 §6.9.1). The
	// connection's window comes back at once.
	if !c.receive.take(int64(h.length)) {
		return 0, ErrWindowOverrun
	}
	if update, _ := c.receive.free(int64(h.length), 0); update > 0 {
		c.pending = appendUint32Frame(c.pending, frameWindowUpdate, 0, uint32(update))
	}
	switch {
	case d.left > 0:
		c.budgets.moved()
	case !d.end:
		if err := c.budgets.spend(empty); err != nil {
			return 0, err
		}
	}
	s := c.streams.find(h.stream)
	switch {
	case s == nil && c.streams.recent.how(h.stream) != closedHere:
		return n, r.dataFault(StreamClosed, "DATA on a closed stream", ev)
	case s == nil:
		if err := c.budgets.spend(useless); err != nil {
			return 0, err
		}
	default:
		if code, text := s.takeData(h.length, d, c.server); text != "" {
			return n, r.dataFault(code, text, ev)
		}
		if padding := h.length - d.left; padding > 0 {
			c.free(s, int64(padding)) // nobody reads it
		}
	}
	return n + r.payload(in[n:], ev), nil
}

// dataFault resets the stream of the DATA frame, of which the rest is passed over.
func (r *receiver) dataFault(code Code, text string, ev *Event) error {
	r.data.active = r.data.left+r.data.pad > 0
	return r.streamFault(r.data.stream, code, text, ev)
}

// takeData takes in a DATA frame, of which length is all that counts for flow control, or says
// what is wrong with it.
func (s *stream) takeData(length int, d *dataFrame, server bool) (Code, string) {
	payload := int64(d.left)
	switch {
	case s.remoteEnd:
		return StreamClosed, "DATA behind the end of its stream"
	case !server && !s.headCame:
		return ProtocolError, "DATA before a response"
	case int64(length) > s.receive.left:
		return FlowControlError, "DATA beyond the stream's window"
	case s.bodiless && payload > 0:
		return ProtocolError, "DATA in an answer that has none"
	case s.length >= 0 && payload > s.length:
		return ProtocolError, "more DATA than content-length says"
	case s.length > payload && d.end && !s.bodiless:
		return ProtocolError, "less DATA than content-length says"
	}
	s.receive.take(int64(length))
	if s.length >= 0 {
		s.length -= payload
	}
	return NoError, ""
}

// payload passes on what has arrived of the DATA frame.
func (r *receiver) payload(in []byte, ev *Event) int {
	payload, n, end := r.data.read(in)
	if len(payload) == 0 && !end {
		return n
	}
	s := r.conn.streams.find(r.data.stream)
	if s == nil {
		return n // it was reset
	}
	*ev = Event{Kind: KindData, Stream: s.id, Owner: s.owner, Payload: payload, End: end}
	if end {
		r.endRemote(s)
	}
	return n
}
