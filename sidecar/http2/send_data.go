package http2

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
			n = int(min(int64(n), s.send.left, c.send.left))
			if n <= 0 {
				s.send.block()
				c.send.block()
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
		s.send.left -= int64(n)
		c.send.left -= int64(n)
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

// SendWindowFull reports whether the peer takes no more payload on any stream, until it says
// so by KindWindow.
func (c *Conn) SendWindowFull() bool { return c.send.left <= 0 }
