package http2

func dependsOnItself(stream uint32, p []byte) bool { return be32(p)&^(1<<31) == stream }

func (r *receiver) headers(h frameHeader, p []byte, ev *Event) error {
	if h.stream == 0 {
		return ErrStreamZero
	}
	p, err := unpad(h, p)
	if err != nil {
		return err
	}
	b := blockStart{stream: h.stream, end: h.has(flagEndStream)}
	if b.form, err = r.classify(&b); err != nil {
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
	r.block.begin(b)
	return r.fragment(h, p, ev)
}

func (r *receiver) continuation(h frameHeader, p []byte, ev *Event) error {
	if h.stream != r.block.stream {
		return ErrContinuation
	}
	r.block.size += continuationCost
	return r.fragment(h, p, ev)
}

// classify says what a head on a stream is.
func (r *receiver) classify(b *blockStart) (headForm, error) {
	c := r.conn
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
	case c.streams.idle(b.stream):
		if !c.server || b.stream&1 == 0 {
			return 0, ErrStreamID
		}
		if c.budgets[resets] <= 0 && !c.goAway.final {
			r.calm()
			b.drained = true
		}
		c.streams.lastID = b.stream
		if c.goAway.final {
			b.ignored = true
			c.streams.recent.add(b.stream, true)
			return requestForm, c.budgets.spend(useless)
		}
		return requestForm, nil
	}
	switch c.streams.recent.how(b.stream) {
	case neverOpened:
		return 0, ErrStreamID
	case closedByPeer:
		return 0, ErrClosedStream
	}
	b.ignored = true
	return requestForm, c.budgets.spend(useless)
}

// calm ends the connection for new streams, since too many were reset before their answer.
func (r *receiver) calm() {
	c := r.conn
	c.goAway.end(c.streams.lastID)
	c.pending = appendGoAway(c.pending, c.goAway.last, EnhanceYourCalm, "rapid reset: too many streams that were reset before their answer")
}

// fragment reads the field block of a HEADERS or CONTINUATION frame; once it is whole, the head
// has come.
func (r *receiver) fragment(h frameHeader, p []byte, ev *Event) error {
	last := h.has(flagEndHeaders)
	r.framing.block = !last
	b := &r.block
	if err := b.add(p, last); err != nil || !last {
		return err
	}
	switch {
	case b.drained:
		ev.Kind = KindDrained
		return nil
	case b.ignored:
		return nil
	case b.fault != "":
		return r.streamFault(b.stream, b.code, b.fault, ev)
	}
	switch b.form {
	case requestForm:
		return r.request(ev)
	case responseForm:
		return r.response(ev)
	}
	return r.trailers(ev)
}

func (r *receiver) request(ev *Event) error {
	c, b, h := r.conn, &r.block, &r.block.head
	h.endRequest(b.end, c.settings.ExtendedConnect)
	switch {
	case c.streams.n >= int(c.settings.MaxStreams):
		return r.streamFault(b.stream, RefusedStream, "more streams than allowed", ev)
	case h.fault != "":
		return r.streamFault(b.stream, ProtocolError, h.fault, ev)
	}
	s := c.streams.open(b.stream, c.peer.initialWindow)
	s.length = h.length
	s.connect = h.connect
	s.remoteEnd = b.end
	*ev = Event{Kind: KindHead, Stream: b.stream, Head: h, End: b.end}
	return nil
}

func (r *receiver) response(ev *Event) error {
	b, h := &r.block, &r.block.head
	s := r.conn.streams.find(b.stream)
	h.endResponse(b.end, s.bodiless, s.connect)
	switch {
	case h.fault != "":
		return r.streamFault(b.stream, ProtocolError, h.fault, ev)
	case h.TooLarge:
		return r.streamFault(b.stream, EnhanceYourCalm, "response head beyond 64 KiB or 100 fields", ev)
	}
	if h.status < 200 {
		if s.interim += h.size + interimCost; s.interim > maxInterim {
			return r.streamFault(b.stream, EnhanceYourCalm, "too many interim responses, or too large ones", ev)
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
		r.endRemote(s)
	}
	return nil
}

func (r *receiver) trailers(ev *Event) error {
	b, h := &r.block, &r.block.head
	s := r.conn.streams.find(b.stream)
	switch {
	case h.fault != "":
		return r.streamFault(b.stream, ProtocolError, h.fault, ev)
	case h.TooLarge:
		return r.streamFault(b.stream, EnhanceYourCalm, "trailers beyond 64 KiB or 100 fields", ev)
	case s.length > 0 && !s.bodiless:
		return r.streamFault(b.stream, ProtocolError, "less DATA than content-length says", ev)
	}
	*ev = Event{Kind: KindTrailers, Stream: s.id, Owner: s.owner, Head: h, End: true}
	r.endRemote(s)
	return nil
}
