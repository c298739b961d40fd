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
	out = c.head.named(out, ":method", method)
	if len(r.Protocol) > 0 {
		out = c.head.named(out, ":protocol", r.Protocol)
	}
	if r.Scheme != "" {
		out = c.head.fieldString(out, ":scheme", r.Scheme)
	}
	if len(r.Authority) > 0 {
		out = c.head.named(out, ":authority", r.Authority)
	}
	if len(r.Path) > 0 {
		out = c.head.named(out, ":path", r.Path)
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
	c.head.final = status >= 200
	c.head.encoder.value = strconv.AppendInt(c.head.encoder.value[:0], int64(status), 10)
	return c.head.named(out, ":status", c.head.encoder.value)
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
	return c.head.begin(out, id, s != nil), s
}

// AppendField appends a field of the head that was begun. The name is a token in either
// case; the value has no control bytes and no space around it: package http1 sees to
// both. Fields that HTTP/2 does not have (RFC 9113 §8.2.2) and Host are left out.
func (c *Conn) AppendField(out, name, value []byte) []byte { return c.head.field(out, name, value) }

// EndHead ends the head that was begun; end says that nothing follows on the stream.
func (c *Conn) EndHead(out []byte, end bool) []byte {
	s := c.streams.find(c.head.stream)
	if !c.head.open || s == nil {
		return out
	}
	var flags uint8
	if end {
		flags = flagEndStream
	}
	out = c.head.end(out, int(c.peer.maxFrame), flags)
	s.answered = s.answered || c.head.final
	if end {
		c.endLocal(s)
	}
	return out
}
