package http2

import "strconv"

// RequestHead are a request's pseudo-header fields.
type RequestHead struct {
	Method    []byte
	Scheme    string // "http" or "https"; empty for a plain CONNECT
	Authority []byte
	Path      []byte // empty for a plain CONNECT
	// Protocol makes it an extended CONNECT (RFC 8441), whatever Method is: see
	// [Conn.PeerExtendedConnect].
	Protocol []byte
}

// Size returns what the pseudo-header fields count for [Conn.PeerMaxHeadSize].
func (r *RequestHead) Size() int {
	n := FieldSize(":method", r.Method) + FieldSize(":authority", r.Authority) + FieldSize(":path", r.Path) + FieldSize(":scheme", r.Scheme)
	if len(r.Protocol) > 0 {
		n += FieldSize(":protocol", r.Protocol)
	}
	return n
}

// FieldSize returns what a field counts for [Conn.PeerMaxHeadSize].
func FieldSize[N, V ~string | ~[]byte](name N, value V) int {
	return len(name) + len(value) + hpackOverhead
}

// openHead is the head that is being written.
type openHead struct {
	stream uint32
	at     int  // where its frame begins
	none   bool // the stream is gone: nothing is written
	final  bool // of a response
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
	out = c.appendNamed(out, ":method", method)
	if len(r.Protocol) > 0 {
		out = c.appendNamed(out, ":protocol", r.Protocol)
	}
	if r.Scheme != "" {
		out = c.AppendFieldString(out, ":scheme", r.Scheme)
	}
	if len(r.Authority) > 0 {
		out = c.appendNamed(out, ":authority", r.Authority)
	}
	if len(r.Path) > 0 {
		out = c.appendNamed(out, ":path", r.Path)
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
	c.open.final = status >= 200
	c.encoder.value = strconv.AppendInt(c.encoder.value[:0], int64(status), 10)
	return c.appendNamed(out, ":status", c.encoder.value)
}

// BeginTrailers begins a trailer section; EndHead must be given end.
func (c *Conn) BeginTrailers(out []byte, id uint32) []byte {
	out, _ = c.beginHead(out, id)
	return out
}

func (c *Conn) beginHead(out []byte, id uint32) ([]byte, *stream) {
	out = c.Output(out)
	s := c.streams.find(id)
	c.open = openHead{stream: id, at: len(out), none: s == nil || s.localEnd}
	if c.open.none {
		return out, nil
	}
	return c.encoder.begin(appendFrameHeader(out, 0, frameHeaders, 0, id)), s
}

func (c *Conn) appendNamed(out []byte, name string, value []byte) []byte {
	c.encoder.name = append(c.encoder.name[:0], name...)
	return c.encoder.field(out, c.encoder.name, value)
}

// AppendField appends a field of the head that was begun. The name is a token in either
// case; the value has no control bytes and no space around it: package http1 sees to
// both. Fields that HTTP/2 does not have (RFC 9113 §8.2.2) and Host are left out.
func (c *Conn) AppendField(out, name, value []byte) []byte {
	if c.open.none {
		return out
	}
	lower := append(c.encoder.name[:0], name...)
	for i, b := range lower {
		if 'A' <= b && b <= 'Z' {
			lower[i] = b | 0x20
		}
	}
	c.encoder.name = lower
	switch nameKinds(lower) {
	case kindForbidden, kindHost:
		return out
	case kindTE:
		if string(value) != "trailers" {
			return out
		}
	}
	return c.encoder.field(out, lower, value)
}

// AppendFieldString is AppendField of what the caller has as strings.
func (c *Conn) AppendFieldString(out []byte, name, value string) []byte {
	if c.open.none {
		return out
	}
	c.encoder.name = append(c.encoder.name[:0], name...)
	c.encoder.value = append(c.encoder.value[:0], value...)
	return c.AppendField(out, c.encoder.name, c.encoder.value)
}

// EndHead ends the head that was begun; end says that nothing follows on the stream.
func (c *Conn) EndHead(out []byte, end bool) []byte {
	o := c.open
	c.open = openHead{none: true}
	s := c.streams.find(o.stream)
	if o.none || s == nil {
		return out
	}
	var flags uint8
	if end {
		flags = flagEndStream
	}
	block := out[o.at+frameHeaderSize:]
	if maxFrame := int(c.peer.maxFrame); len(block) > maxFrame {
		out = appendBlock(out[:o.at], append([]byte(nil), block...), maxFrame, flags, o.stream)
	} else {
		putFrameLength(out[o.at:], len(block))
		out[o.at+4] = flags | flagEndHeaders
	}
	s.answered = s.answered || o.final
	if end {
		c.endLocal(s)
	}
	return out
}

// appendBlock appends a field block that needs CONTINUATION frames.
func appendBlock(out, block []byte, maxFrame int, flags uint8, stream uint32) []byte {
	typ := frameHeaders
	for len(block) > maxFrame {
		out = append(appendFrameHeader(out, maxFrame, typ, flags, stream), block[:maxFrame]...)
		block = block[maxFrame:]
		typ, flags = frameContinuation, 0
	}
	return append(appendFrameHeader(out, len(block), typ, flags|flagEndHeaders, stream), block...)
}
