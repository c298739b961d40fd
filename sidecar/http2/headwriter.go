package http2

// headWriter writes the field block (RFC 9113 §4.3) of one head after another, in HEADERS and
// CONTINUATION frames. Between begin and end what it is given is one slice, which has the whole
// block: frames cannot be cut before its length is known.
type headWriter struct {
	encoder encoder
	stream  uint32
	at      int  // where its first frame begins
	open    bool // false: nothing is written
	final   bool // of a response
}

// begin begins a head. If there is no stream to write it to, nothing is written until the next.
func (w *headWriter) begin(out []byte, stream uint32, open bool) []byte {
	w.stream, w.at, w.open, w.final = stream, len(out), open, false
	if !open {
		return out
	}
	return w.encoder.begin(appendFrameHeader(out, 0, frameHeaders, 0, stream))
}

// named appends a field whose name is one of ours, in lower case.
func (w *headWriter) named(out []byte, name string, value []byte) []byte {
	w.encoder.name = append(w.encoder.name[:0], name...)
	return w.encoder.field(out, w.encoder.name, value)
}

// field appends a field, or leaves it out: see Conn.AppendField.
func (w *headWriter) field(out, name, value []byte) []byte {
	if !w.open {
		return out
	}
	lower := append(w.encoder.name[:0], name...)
	for i, b := range lower {
		if 'A' <= b && b <= 'Z' {
			lower[i] = b | 0x20
		}
	}
	w.encoder.name = lower
	switch nameKinds(lower) {
	case kindForbidden, kindHost:
		return out
	case kindTE:
		if string(value) != "trailers" {
			return out
		}
	}
	return w.encoder.field(out, lower, value)
}

// fieldString is field of what the caller has as strings.
func (w *headWriter) fieldString(out []byte, name, value string) []byte {
	if !w.open {
		return out
	}
	w.encoder.name = append(w.encoder.name[:0], name...)
	w.encoder.value = append(w.encoder.value[:0], value...)
	return w.field(out, w.encoder.name, w.encoder.value)
}

// end ends the head, with frames of maxFrame bytes at most; the first has the flags.
func (w *headWriter) end(out []byte, maxFrame int, flags uint8) []byte {
	w.open = false
	block := out[w.at+frameHeaderSize:]
	if len(block) > maxFrame {
		return appendBlock(out[:w.at], append([]byte(nil), block...), maxFrame, flags, w.stream)
	}
	putFrameLength(out[w.at:], len(block))
	out[w.at+4] = flags | flagEndHeaders
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
