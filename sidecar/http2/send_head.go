package http2

import "strconv"

// RequestHead are a request's pseudo-header fields.
type RequestHead struct {
	Method    []byte
	Scheme    string // "http" or "https"; empty for a plain CONNECT
	Authority []byte
	Path      []byte // empty for a plain CONNECT
	// Protocol makes it an extended CONNECT (RFC 8441), whatever Method is: see
	// [PeerSettings.ExtendedConnect].
	Protocol []byte
}

// Size returns what the pseudo-header fields count for [PeerSettings.MaxHeadSize].
func (r *RequestHead) Size() int {
	n := FieldSize(":method", r.Method) + FieldSize(":authority", r.Authority) + FieldSize(":path", r.Path) + FieldSize(":scheme", r.Scheme)
	if len(r.Protocol) > 0 {
		n += FieldSize(":protocol", r.Protocol)
	}
	return n
}

// FieldSize returns what a field counts for [PeerSettings.MaxHeadSize].
func FieldSize[N, V ~string | ~[]byte](name N, value V) int {
	return len(name) + len(value) + hpackOverhead
}

// BeginRequest begins the head of a stream that OpenStream has just given. AppendField
// and EndHead must follow with the same out, under the same lock.
func (c *Conn) BeginRequest(out []byte, id uint32, r *RequestHead) []byte {
	out, s := c.beginHead(out, id)
	if s == nil {
		return out
	}
	method := r.Method
	if len(r.Protocol) > 0 {
		method = []byte("CONNECT")
	}
	s.bodiless = string(method) == "HEAD"
	s.connect = string(method) == "CONNECT"
	out = c.headWriter.named(out, ":method", method)
	if len(r.Protocol) > 0 {
		out = c.headWriter.named(out, ":protocol", r.Protocol)
	}
	if r.Scheme != "" {
		out = c.AppendFieldString(out, ":scheme", r.Scheme)
	}
	if len(r.Authority) > 0 {
		out = c.headWriter.named(out, ":authority", r.Authority)
	}
	if len(r.Path) > 0 {
		out = c.headWriter.named(out, ":path", r.Path)
	}
	return out
}

// BeginResponse begins an answer, interim or final. 101 does not exist in HTTP/2: what
// switches protocols is answered with 200 (RFC 8441 §5).
func (c *Conn) BeginResponse(out []byte, id uint32, status int) []byte {
	out, s := c.beginHead(out, id)
	if s == nil {
		return out
	}
	c.headWriter.final = status >= 200
	c.headWriter.encoder.value = strconv.AppendInt(c.headWriter.encoder.value[:0], int64(status), 10)
	return c.headWriter.named(out, ":status", c.headWriter.encoder.value)
}

// BeginTrailers begins a trailer section; EndHead must be given end.
func (c *Conn) BeginTrailers(out []byte, id uint32) []byte {
	out, _ = c.beginHead(out, id)
	return out
}

func (c *Conn) beginHead(out []byte, id uint32) ([]byte, *stream) {
	out = c.Output(out)
	s := c.streams.find(id)
	if s != nil && s.localEnd {
		s = nil
	}
	return c.headWriter.begin(out, id, s != nil), s
}

// EndHead ends the head that was begun; end says that nothing follows on the stream.
func (c *Conn) EndHead(out []byte, end bool) []byte {
	s := c.streams.find(c.headWriter.stream)
	if !c.headWriter.open || s == nil {
		return out
	}
	var flags uint8
	if end {
		flags = flagEndStream
	}
	out = c.headWriter.end(out, int(c.peer.maxFrame), flags)
	s.answered = s.answered || c.headWriter.final
	if end {
		c.endLocal(s)
	}
	return out
}
