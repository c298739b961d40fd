package http2

import "encoding/binary"

// drain is our own going away.
type drain struct {
	started bool // GOAWAY was sent, or its first step
	pinged  bool // the first step waits for its PING
	final   bool // GOAWAY with the last stream was sent
	last    uint32
}

// drainPing is the payload of the PING behind the first GOAWAY: who answers it has read that.
const drainPing = "\x00drain\r\n"

func appendGoAway(out []byte, last uint32, code Code, debug string) []byte {
	out = appendFrameHeader(out, 8+len(debug), frameGoAway, 0, 0)
	out = binary.BigEndian.AppendUint32(out, last)
	out = binary.BigEndian.AppendUint32(out, uint32(code))
	return append(out, debug...)
}

// AppendDrain begins the end of the connection: no new streams, those that are open go
// on. A server says so in two steps (RFC 9113 §6.8), so that no stream on its way is
// lost: the last stream is named once the peer has answered a PING behind the first
// step, which KindDrained tells. A client opens no more streams from now on.
func (c *Conn) AppendDrain(out []byte) []byte {
	out = c.Output(out)
	if c.drain.started || c.err != nil {
		return out
	}
	c.drain.started = true
	if !c.server {
		c.drain.final = true
		return appendGoAway(out, 0, NoError, "")
	}
	c.drain.pinged = true
	out = appendGoAway(out, maxStreamID, NoError, "")
	return append(appendFrameHeader(out, len(drainPing), framePing, 0, 0), drainPing...)
}

// calm ends the connection for new streams, since too many were reset before their answer.
func (c *Conn) calm() {
	c.drain = drain{started: true, final: true, last: c.lastID}
	c.pending = appendGoAway(c.pending, c.lastID, EnhanceYourCalm, "rapid reset: too many streams that were reset before their answer")
}

// lastTaken is the last stream of the peer's that we process.
func (c *Conn) lastTaken() uint32 {
	if c.drain.final {
		return c.drain.last
	}
	return c.lastID
}

// Draining reports whether one of the ends takes no new streams.
func (c *Conn) Draining() bool { return c.drain.started || c.goAwayCame }

func (c *Conn) pingAcked(p []byte, ev *Event) {
	if !c.drain.pinged || string(p) != drainPing {
		ev.Kind, ev.Payload = KindPingAck, p
		return
	}
	ev.Kind = KindDrained
	c.drain.pinged = false
	if !c.drain.final {
		c.drain.final, c.drain.last = true, c.lastID
		c.pending = appendGoAway(c.pending, c.lastID, NoError, "")
	}
}

func (c *Conn) receiveGoAway(h frameHeader, p []byte, ev *Event) error {
	switch {
	case h.stream != 0:
		return ErrNotStreamZero
	case len(p) < 8:
		return ErrFrameLength
	}
	last := min(be32(p)&^(1<<31), c.goAwayID) // it never rises
	c.goAwayID, c.goAwayCame = last, true
	*ev = Event{Kind: KindGoAway, LastStream: last, Code: Code(be32(p[4:])), Payload: p[8:]}
	return c.budgets.spend(useless)
}
