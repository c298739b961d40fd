package http2

// headBlock is the field block that is being read, with its CONTINUATION frames.
type headBlock struct {
	open    bool // CONTINUATION must follow
	end     bool // END_STREAM
	ignored bool // decoded for the sake of the table alone
	drained bool // and the first that is, see calm
	stream  uint32
	size    int
	// A fault that was found before the block: it is decoded nevertheless.
	code  Code
	fault string
}

func dependsOnItself(stream uint32, p []byte) bool { return be32(p)&^(1<<31) == stream }

func (c *Conn) receiveHeaders(h frameHeader, p []byte, ev *Event) error {
	if h.stream == 0 {
		return ErrStreamZero
	}
	p, err := unpad(h, p)
	if err != nil {
		return err
	}
	b := headBlock{stream: h.stream, end: h.has(flagEndStream)}
	form, err := c.classify(&b)
	if err != nil {
		return err
	}
	if h.has(flagPriority) {
		if len(p) < 5 {
			return ErrFrameLength
		}
		if dependsOnItself(h.stream, p) && b.fault == "" {
			b.code, b.fault = ProtocolError, "stream that depends on itself"
		}
		p = p[5:]
	}
	c.block = b
	c.head.reset(form)
	c.decoder.begin()
	return c.fragment(p, h.has(flagEndHeaders), ev)
}

// classify says what a head on a stream is.
func (c *Conn) classify(b *headBlock) (headForm, error) {
	s := c.streams.find(b.stream)
	switch {
	case s != nil && s.remoteEnd:
		b.code, b.fault = StreamClosed, "head behind the end of its stream"
		return trailerForm, nil
	case s != nil && (c.server || s.headCame):
		if !b.end {
			b.code, b.fault = ProtocolError, "trailers that do not end their stream"
		}
		return trailerForm, nil
	case s != nil:
		return responseForm, nil
	case c.idle(b.stream):
		if !c.server || b.stream&1 == 0 {
			return 0, ErrStreamID
		}
		if c.budgets[resets] <= 0 && !c.drain.final {
			c.calm()
			b.drained = true
		}
		c.lastID = b.stream
		if c.drain.final {
			b.ignored = true
			c.recent.add(b.stream, true)
			return requestForm, c.budgets.spend(useless)
		}
		return requestForm, nil
	}
	switch c.recent.how(b.stream) {
	case neverOpened:
		return 0, ErrStreamID
	case closedByPeer:
		return 0, ErrClosedStream
	}
	b.ignored = true
	return requestForm, c.budgets.spend(useless)
}

func (c *Conn) receiveContinuation(h frameHeader, p []byte, ev *Event) error {
	if h.stream != c.block.stream {
		return ErrContinuation
	}
	c.block.size += continuationCost
	return c.fragment(p, h.has(flagEndHeaders), ev)
}

// fragment decodes a part of the block.
func (c *Conn) fragment(p []byte, last bool, ev *Event) error {
	b := &c.block
	if b.size += len(p); b.size > maxBlock {
		return ErrContinuations
	}
	if err := c.decoder.decode(p, &c.head); err != nil {
		return err
	}
	b.open = !last
	if !last {
		return nil
	}
	if err := c.decoder.end(); err != nil {
		return err
	}
	switch {
	case b.drained:
		ev.Kind = KindDrained
		return nil
	case b.ignored:
		return nil
	case b.fault != "":
		return c.streamFault(b.stream, b.code, b.fault, ev)
	}
	switch c.head.form {
	case requestForm:
		return c.requestCame(ev)
	case responseForm:
		return c.responseCame(ev)
	}
	return c.trailersCame(ev)
}

func (c *Conn) requestCame(ev *Event) error {
	b, h := &c.block, &c.head
	h.endRequest(b.end, c.settings.ExtendedConnect)
	switch {
	case c.streams.n >= int(c.settings.MaxStreams):
		return c.streamFault(b.stream, RefusedStream, "more streams than allowed", ev)
	case h.fault != "":
		return c.streamFault(b.stream, ProtocolError, h.fault, ev)
	}
	s := c.streams.add(b.stream)
	s.window = int64(c.peer.initialWindow)
	s.size = int64(c.settings.StreamWindow)
	s.received = s.size
	s.length = h.length
	s.connect = h.connect
	s.remoteEnd = b.end
	*ev = Event{Kind: KindHead, Stream: b.stream, Head: h, End: b.end}
	return nil
}

func (c *Conn) responseCame(ev *Event) error {
	b, h := &c.block, &c.head
	s := c.streams.find(b.stream)
	h.endResponse(b.end, s.bodiless, s.connect)
	switch {
	case h.fault != "":
		return c.streamFault(b.stream, ProtocolError, h.fault, ev)
	case h.TooLarge:
		return c.streamFault(b.stream, EnhanceYourCalm, "response head beyond 64 KiB or 100 fields", ev)
	}
	if h.status < 200 {
		if s.interim += h.size + interimCost; s.interim > maxInterim {
			return c.streamFault(b.stream, EnhanceYourCalm, "too many interim responses, or too large ones", ev)
		}
	}
	*ev = Event{Kind: KindHead, Stream: s.id, Owner: s.owner, Head: h, End: b.end}
	if h.status < 200 {
		return nil
	}
	s.headCame = true
	s.bodiless = h.bodiless
	s.length = h.length
	if b.end {
		c.endRemote(s)
	}
	return nil
}

func (c *Conn) trailersCame(ev *Event) error {
	b, h := &c.block, &c.head
	s := c.streams.find(b.stream)
	switch {
	case h.fault != "":
		return c.streamFault(b.stream, ProtocolError, h.fault, ev)
	case h.TooLarge:
		return c.streamFault(b.stream, EnhanceYourCalm, "trailers beyond 64 KiB or 100 fields", ev)
	case s.length > 0 && !s.bodiless:
		return c.streamFault(b.stream, ProtocolError, "less DATA than content-length says", ev)
	}
	*ev = Event{Kind: KindTrailers, Stream: s.id, Owner: s.owner, Head: h, End: true}
	c.endRemote(s)
	return nil
}
