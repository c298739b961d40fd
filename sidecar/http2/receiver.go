package http2

import (
	"encoding/binary"
	"errors"
)

// receiver reads: it makes events of what the peer sends, and has what of that is not whole
// yet. What a frame changes, sending changes as well, so that it has the Conn: its streams,
// windows, budgets and settings. Conn.Next calls it, nobody else does.
type receiver struct {
	conn    *Conn
	framing framing
	data    dataFrame
	block   fieldBlock
	unacked int // SETTINGS of ours that the peer did not acknowledge
}

// next takes in a frame, or a part of one, as Conn.Next does.
func (r *receiver) next(in []byte, ev *Event) (int, error) {
	switch {
	case r.data.active:
		return r.payload(in, ev), nil
	case r.framing.expectsPreface():
		return r.framing.takePreface(in)
	case len(in) < frameHeaderSize:
		return 0, nil
	}
	h := parseFrameHeader(in)
	if err := r.framing.check(h); err != nil {
		return 0, err
	}
	if h.typ == frameData {
		return r.startData(h, in, ev)
	}
	n := frameHeaderSize + h.length
	if len(in) < n {
		return 0, nil
	}
	if err := r.frame(h, in[frameHeaderSize:n], ev); err != nil {
		return 0, err
	}
	if len(r.conn.pending) > maxPending {
		return 0, ErrNotReading
	}
	return n, nil
}

func (r *receiver) frame(h frameHeader, p []byte, ev *Event) error {
	switch h.typ {
	case frameHeaders:
		return r.headers(h, p, ev)
	case frameContinuation:
		return r.continuation(h, p, ev)
	case framePriority:
		return r.priority(h, p, ev)
	case frameResetStream:
		return r.reset(h, p, ev)
	case frameSettings:
		return r.settings(h, p, ev)
	case framePushPromise:
		return ErrPush
	case framePing:
		return r.ping(h, p, ev)
	case frameGoAway:
		return r.goAway(h, p, ev)
	case frameWindowUpdate:
		return r.windowUpdate(h, p, ev)
	}
	return r.conn.budgets.spend(useless) // RFC 9113 §4.1: unknown types are ignored
}

// priority ignores priorities (RFC 9113 §5.3.2).
func (r *receiver) priority(h frameHeader, p []byte, ev *Event) error {
	if h.stream == 0 {
		return ErrStreamZero
	}
	if err := r.conn.budgets.spend(priority); err != nil {
		return err
	}
	switch {
	case len(p) != 5:
		return r.streamFault(h.stream, FrameSizeError, "PRIORITY of another length than 5", ev)
	case dependsOnItself(h.stream, p):
		return r.streamFault(h.stream, ProtocolError, "stream that depends on itself", ev)
	}
	return nil
}

func (r *receiver) reset(h frameHeader, p []byte, ev *Event) error {
	c := r.conn
	switch {
	case h.stream == 0:
		return ErrStreamZero
	case len(p) != 4:
		return ErrFrameLength
	case c.streams.idle(h.stream):
		return ErrIdleStream
	}
	s := c.streams.find(h.stream)
	if s == nil {
		return c.budgets.spend(useless)
	}
	*ev = Event{Kind: KindReset, Stream: s.id, Owner: s.owner, Code: Code(be32(p))}
	premature := c.server && !s.answered
	c.streams.close(s, false)
	if premature {
		_ = c.budgets.spend(resets) // the next stream is refused: see calm
	}
	return nil
}

func (r *receiver) settings(h frameHeader, p []byte, ev *Event) error {
	c := r.conn
	switch {
	case h.stream != 0:
		return ErrNotStreamZero
	case h.has(flagAck) && len(p) > 0, len(p)%6 != 0:
		return ErrFrameLength
	case h.has(flagAck):
		if r.unacked == 0 {
			return ErrSettingsAck
		}
		r.unacked--
		ev.Kind = KindSettingsAck
		return nil
	}
	for ; len(p) > 0; p = p[6:] {
		id, v, window := binary.BigEndian.Uint16(p), be32(p[2:]), c.peer.initialWindow
		if err := c.peer.apply(id, v, c.server); err != nil {
			return err
		}
		switch id {
		case settingTableSize:
			c.head.encoder.limit(v)
		case settingInitialWindow: // KindSettings tells all that wait to try again
			if !c.streams.shift(int64(v) - int64(window)) {
				return ErrWindowTooFar
			}
		}
	}
	ev.Kind = KindSettings
	c.pending = appendFrameHeader(c.pending, 0, frameSettings, flagAck, 0)
	return c.budgets.spend(settings)
}

func (r *receiver) ping(h frameHeader, p []byte, ev *Event) error {
	c := r.conn
	switch {
	case h.stream != 0:
		return ErrNotStreamZero
	case len(p) != 8:
		return ErrFrameLength
	case h.has(flagAck):
		if c.goAway.pinged && string(p) == drainPing {
			ev.Kind = KindDrained
			c.goAway.end(c.streams.lastID)
			c.pending = appendGoAway(c.pending, c.goAway.last, NoError, "")
		}
		return nil
	}
	c.pending = append(appendFrameHeader(c.pending, 8, framePing, flagAck, 0), p...)
	return c.budgets.spend(pings)
}

func (r *receiver) goAway(h frameHeader, p []byte, ev *Event) error {
	switch {
	case h.stream != 0:
		return ErrNotStreamZero
	case len(p) < 8:
		return ErrFrameLength
	}
	last := r.conn.goAway.receive(be32(p) &^ (1 << 31))
	*ev = Event{Kind: KindGoAway, LastStream: last, Code: Code(be32(p[4:])), Payload: p[8:]}
	return r.conn.budgets.spend(useless)
}

func (r *receiver) windowUpdate(h frameHeader, p []byte, ev *Event) error {
	c := r.conn
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
		case !c.send.add(by):
			return ErrWindowTooFar
		}
		if c.send.opened() {
			ev.Kind = KindWindow
		}
		return nil
	}
	if c.streams.idle(h.stream) {
		return ErrIdleStream
	}
	s := c.streams.find(h.stream)
	switch {
	case s == nil:
		return nil // RFC 9113 §5.1: it may have been on its way
	case by == 0:
		return r.streamFault(s.id, ProtocolError, "WINDOW_UPDATE by 0", ev)
	case !s.send.add(by):
		return r.streamFault(s.id, FlowControlError, "window beyond 2³¹-1", ev)
	}
	if s.send.opened() {
		*ev = Event{Kind: KindWindow, Stream: s.id, Owner: s.owner}
	}
	return nil
}

// endRemote takes in that the peer sends no more.
func (r *receiver) endRemote(s *stream) {
	s.remoteEnd = true
	if s.localEnd {
		r.conn.finish(s)
	}
}

// streamFault resets a stream for a fault of the peer (RFC 9113 §5.4.2).
func (r *receiver) streamFault(id uint32, code Code, text string, ev *Event) error {
	c := r.conn
	*ev = Event{Kind: KindReset, Local: true, Stream: id, Code: code, Text: text}
	if s := c.streams.find(id); s != nil {
		ev.Owner = s.owner
		c.streams.close(s, true)
	} else {
		c.streams.recent.add(id, true)
	}
	c.pending = appendUint32Frame(c.pending, frameResetStream, id, uint32(code))
	return c.budgets.spend(streamFaults)
}

// connectionFault ends the connection with GOAWAY (RFC 9113 §5.4.1).
func (r *receiver) connectionFault(err error) error {
	c := r.conn
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{InternalError, err.Error()}
	}
	c.err = e
	c.pending = appendGoAway(c.pending, c.goAway.lastTaken(c.streams.lastID), e.Code, e.Text)
	return e
}
