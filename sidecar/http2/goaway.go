package http2

import "encoding/binary"

// goAway is what both ends have said of the end of the connection (RFC 9113 §6.8).
type goAway struct {
	started bool   // ours was sent, or its first step
	pinged  bool   // the first step waits for its PING
	final   bool   // ours with the last stream was sent
	last    uint32 // that stream

	came     bool   // the peer's
	peerLast uint32 // the last stream of ours that the peer processes
}

// drainPing is the payload of the PING behind the first GOAWAY: who answers it has read that.
const drainPing = "\x00drain\r\n"

// end says that last is the last stream of the peer's that we process.
func (g *goAway) end(last uint32) { g.started, g.pinged, g.final, g.last = true, false, true, last }

// lastTaken is the last stream of the peer's that we process; lastID is the last that it opened.
func (g *goAway) lastTaken(lastID uint32) uint32 {
	if g.final {
		return g.last
	}
	return lastID
}

// receive takes in the peer's GOAWAY and returns the last stream of ours that it
// processes: it may say so several times, and that one never rises.
func (g *goAway) receive(last uint32) uint32 {
	g.came, g.peerLast = true, min(last, g.peerLast)
	return g.peerLast
}

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
	if c.goAway.started || c.err != nil {
		return out
	}
	if !c.server {
		c.goAway.end(0)
		return appendGoAway(out, 0, NoError, "")
	}
	c.goAway.started, c.goAway.pinged = true, true
	out = appendGoAway(out, maxStreamID, NoError, "")
	return append(appendFrameHeader(out, len(drainPing), framePing, 0, 0), drainPing...)
}

// Draining reports whether one of the ends takes no new streams.
func (c *Conn) Draining() bool { return c.goAway.started || c.goAway.came }
