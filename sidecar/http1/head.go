package http1

import "bytes"

// kind tells the fields that the engine treats in a special way from all others.
type kind uint8

const (
	other            kind = iota
	host                  // exactly one
	contentLength         // framing
	transferEncoding      // framing, hop-by-hop
	connection            // hop-by-hop
	upgrade               // hop-by-hop
	hopByHop              // Keep-Alive, Proxy-Connection, Proxy-Authorization, HTTP2-Settings, …
	te                    // hop-by-hop; trailers is said anew
	date
	expect         // 100-continue
	requestID      // x-request-id
	forwardedProto // x-forwarded-proto
	forwarded      // x-forwarded-for, x-forwarded-host, …: what an outsider may not claim
	identity       // x-forwarded-client-cert, x-isthmus-…: what nobody but a sidecar may claim
	proxyStatus    // RFC 9209
	grpcTimeout    // of gRPC: what is left for the answer
	listedHopByHop // named by Connection
)

// span is a range of the buffer that was parsed, by offset.
type span struct{ from, to uint32 }

// field is one field line.
type field struct {
	line  span // with its CRLF
	name  span
	value span // without the whitespace around it
	kind  kind
}

// head is what requests and responses have in common: where the parser is and
// what it found.
type head struct {
	// LeaveRoom says that another hop of the mesh reads the head after us: MaxHead and
	// MaxFields are lower by what we add. It stays as it is set, over Reset.
	LeaveRoom bool

	raw        []byte // the parsed head, set when it is complete; the caller's memory
	isResponse bool   // of a response
	pos        int    // start of the line being read
	seen       int    // up to where a line end was looked for
	lines      int    // lines consumed, the first included
	n          int    // fields in use
	fields     [MaxFields]field

	length      int64 // Content-Length, -1 without
	chunked     bool
	codings     int // Transfer-Encoding fields
	hosts       int
	close       bool // Connection: close
	keepAlive   bool // Connection: keep-alive
	upgrading   bool // Connection: upgrade
	http10      bool // HTTP/1.0
	expects     bool
	hasUpgrade  bool
	hasID       bool
	hasProto    bool
	hasDate     bool
	trailers    bool // TE: trailers
	listsTE     bool // Connection: TE
	hostValue   span
	upgradeTo   span
	proxyStatus span
	names       [maxListed]span
	named       int
}

func (h *head) reset() {
	// The fields array stays as it is: n says how much of it means something.
	h.raw, h.pos, h.seen, h.lines, h.n = nil, 0, 0, 0, 0
	h.length, h.chunked, h.codings, h.hosts = -1, false, 0, 0
	h.close, h.keepAlive, h.upgrading, h.http10 = false, false, false, false
	h.expects, h.hasUpgrade, h.hasID, h.hasProto, h.hasDate = false, false, false, false, false
	h.trailers, h.listsTE = false, false
	h.hostValue, h.upgradeTo, h.proxyStatus, h.named = span{}, span{}, span{}, 0
}

func (h *head) bytes(s span) []byte { return h.raw[s.from:s.to] }

// line returns the next line of b without its CRLF, or ok == false when it has
// not arrived in whole. On return pos is behind the line; start is where it began.
func (h *head) line(b []byte) (line []byte, start int, ok bool, err error) {
	i := bytes.IndexByte(b[h.seen:], '\n')
	if i < 0 {
		h.seen = len(b)
		switch {
		case h.lines == 0 && len(b)-h.pos > MaxLine:
			return nil, 0, false, ErrLineTooLong
		case len(b) >= h.maxHead():
			return nil, 0, false, ErrHeadTooLarge
		}
		return nil, 0, false, nil
	}
	start = h.pos
	end := h.seen + i
	switch {
	case h.lines == 0 && end-start > MaxLine:
		return nil, 0, false, ErrLineTooLong
	case end+1 > h.maxHead():
		return nil, 0, false, ErrHeadTooLarge
	case end == start || b[end-1] != '\r':
		return nil, 0, false, ErrBareLF
	}
	line = b[start : end-1]
	if !text(line) {
		if bytes.IndexByte(line, '\r') >= 0 {
			return nil, 0, false, ErrBareCR
		}
		return nil, 0, false, ErrControl
	}
	h.pos, h.seen = end+1, end+1
	return line, start, true, nil
}

// parseFields consumes field lines until the blank one; done says that it came.
func (h *head) parseFields(b []byte) (done bool, err error) {
	for {
		line, start, ok, err := h.line(b)
		if !ok || err != nil {
			return false, err
		}
		h.lines++
		if len(line) == 0 {
			h.raw = b[:h.pos]
			h.markHopByHop()
			return true, nil
		}
		if h.n == h.maxFields() {
			return false, ErrTooManyFields
		}
		f := &h.fields[h.n]
		if err := f.parse(line, start); err != nil {
			return false, err
		}
		h.n++
		if f.kind != other {
			if err := h.record(b, f); err != nil {
				return false, err
			}
		}
	}
}

// parse splits a field line that starts at offset start.
func (f *field) parse(line []byte, start int) error {
	if line[0] == ' ' || line[0] == '\t' {
		return ErrFold
	}
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 || !all(line[:colon], classToken) {
		return ErrFieldName
	}
	from, to := colon+1, len(line)
	for from < to && (line[from] == ' ' || line[from] == '\t') {
		from++
	}
	for to > from && (line[to-1] == ' ' || line[to-1] == '\t') {
		to--
	}
	o := uint32(start)
	f.line = span{o, o + uint32(len(line)) + 2}
	f.name = span{o, o + uint32(colon)}
	f.value = span{o + uint32(from), o + uint32(to)}
	f.kind = kindOf(line[:colon])
	return nil
}

// record takes in what a field of a special kind says.
func (h *head) record(b []byte, f *field) error {
	v := b[f.value.from:f.value.to]
	if h.isResponse && (f.kind == host || f.kind == expect) {
		return nil // means nothing in a response
	}
	switch f.kind {
	case host:
		h.hosts++
		h.hostValue = f.value
		if h.hosts > 1 || len(v) > 0 && !isAuthority(v) {
			return ErrHost
		}
	case contentLength:
		n, ok := parseLength(v)
		if !ok || h.length >= 0 {
			return ErrLength
		}
		h.length = n
	case transferEncoding:
		h.codings++
		switch {
		case h.codings > 1:
			return ErrNotChunked
		case equalFold(v, "chunked"):
			h.chunked = true
		case endsWithChunked(v):
			return ErrCoding
		default:
			return ErrNotChunked
		}
	case connection:
		return h.recordConnection(v, f.value.from)
	case upgrade:
		if h.hasUpgrade { // several offers: none is taken
			h.upgradeTo = span{}
		} else {
			h.upgradeTo = f.value
		}
		h.hasUpgrade = true
	case expect:
		if !equalFold(v, "100-continue") {
			return ErrExpect
		}
		h.expects = true
	case te:
		h.recordTE(v)
	case date:
		h.hasDate = true
	case requestID:
		h.hasID = true
	case forwardedProto:
		h.hasProto = true
	case proxyStatus:
		h.proxyStatus = f.value
	}
	return nil
}

// endsWithChunked reports whether v is a list of transfer codings of which chunked is
// the last, once: a body whose end is known, but whose coding is not.
func endsWithChunked(v []byte) bool {
	last := bytes.LastIndexByte(v, ',')
	if last < 0 || !equalFold(trim(v[last+1:]), "chunked") {
		return false
	}
	others := false
	for list := v[:last]; ; others = true {
		coding, rest, ok := nextElement(list)
		if !ok {
			return others
		}
		name := coding
		if i := bytes.IndexByte(coding, ';'); i >= 0 { // parameters
			name = trim(coding[:i])
		}
		if len(name) == 0 || !all(name, classToken) || equalFold(name, "chunked") {
			return false
		}
		list = rest
	}
}

func (h *head) recordTE(v []byte) {
	for {
		e, next, ok := nextElement(v)
		if !ok {
			return
		}
		h.trailers = h.trailers || equalFold(e, "trailers")
		v = next
	}
}

func (h *head) recordConnection(v []byte, at uint32) error {
	rest := v
	for {
		e, next, ok := nextElement(rest)
		if !ok {
			return nil
		}
		switch {
		case equalFold(e, "close"):
			h.close = true
		case equalFold(e, "keep-alive"):
			h.keepAlive = true
		case equalFold(e, "upgrade"):
			h.upgrading = true
		case equalFold(e, "te"):
			h.listsTE = true
		default:
			if h.named == maxListed || !all(e, classToken) {
				return ErrConnection
			}
			// e lies within v: its offset is the difference of the remaining capacities.
			from := at + uint32(cap(v)-cap(e))
			h.names[h.named] = span{from, from + uint32(len(e))}
			h.named++
		}
		rest = next
	}
}

// markHopByHop marks the fields that Connection lists. Framing and routing fields are
// not ours to drop on a peer's word.
func (h *head) markHopByHop() {
	for _, name := range h.names[:h.named] {
		for i := range h.fields[:h.n] {
			f := &h.fields[i]
			if sameFold(h.bytes(name), h.bytes(f.name)) && (f.kind == other || f.kind == proxyStatus || f.kind == date || f.kind == grpcTimeout) {
				f.kind = listedHopByHop
			}
		}
	}
}

// framing checks what RFC 9112 §6.1 calls request smuggling or response splitting.
func (h *head) framing() error {
	switch {
	case h.codings > 0 && h.length >= 0:
		return ErrLengthAndTE
	case h.codings > 0 && h.http10:
		return ErrChunkedHTTP10
	}
	return nil
}

// Unbound makes the length of the body unknown: Content-Length is not passed on, and the
// body is chunked here. It is for a body that may have trailers behind it, which HTTP/2
// allows beside a length.
func (h *head) Unbound() {
	for i := range h.fields[:h.n] {
		if f := &h.fields[i]; f.kind == contentLength {
			f.kind = listedHopByHop
		}
	}
	h.length, h.chunked = -1, true
}

// Value returns the first value of the field called name, which is in lower case,
// or nil. The bytes are the caller's buffer.
func (h *head) Value(name string) []byte {
	for i := range h.fields[:h.n] {
		if f := &h.fields[i]; equalFold(h.bytes(f.name), name) {
			return h.bytes(f.value)
		}
	}
	return nil
}

// kindOf tells the special fields by length first, so that most cost one branch.
func kindOf(name []byte) kind {
	switch len(name) {
	case 2:
		if equalFold(name, "te") {
			return te
		}
	case 4:
		switch {
		case equalFold(name, "host"):
			return host
		case equalFold(name, "date"):
			return date
		}
	case 6:
		if equalFold(name, "expect") {
			return expect
		}
	case 7:
		if equalFold(name, "upgrade") {
			return upgrade
		}
	case 9:
		if equalFold(name, "forwarded") {
			return forwarded
		}
	case 10:
		switch {
		case equalFold(name, "connection"):
			return connection
		case equalFold(name, "keep-alive"):
			return hopByHop
		}
	case 12:
		switch {
		case equalFold(name, "x-request-id"):
			return requestID
		case equalFold(name, "proxy-status"):
			return proxyStatus
		case equalFold(name, "grpc-timeout"):
			return grpcTimeout
		}
	case 14:
		if equalFold(name, "content-length") {
			return contentLength
		}
		if equalFold(name, "http2-settings") {
			return hopByHop
		}
	case 16:
		if equalFold(name, "proxy-connection") {
			return hopByHop
		}
	case 17:
		switch {
		case equalFold(name, "transfer-encoding"):
			return transferEncoding
		case equalFold(name, "x-forwarded-proto"):
			return forwardedProto
		}
	case 18:
		if equalFold(name, "proxy-authenticate") {
			return hopByHop
		}
	case 19:
		if equalFold(name, "proxy-authorization") {
			return hopByHop
		}
	}
	if name[0]|0x20 == 'x' {
		return claimOf(name)
	}
	return other
}

// claimOf tells the fields in which somebody says who he is. CGI and WSGI programs
// see X_Real_Ip and X-Real-Ip as one variable: a claim counts in either spelling.
func claimOf(name []byte) kind {
	switch {
	case equalClaim(name, "x-forwarded-client-cert"):
		return identity
	case len(name) > 12 && equalClaim(name[:12], "x-forwarded-"), equalClaim(name, "x-real-ip"):
		return forwarded
	case len(name) > 10 && equalClaim(name[:10], "x-isthmus-"):
		return identity
	}
	return other
}
