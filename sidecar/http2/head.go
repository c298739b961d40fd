package http2

import "encoding/binary"

// headForm says what a field block is.
type headForm uint8

const (
	requestForm headForm = iota
	responseForm
	trailerForm
)

// pseudo is a set of pseudo-header fields.
type pseudo uint8

const (
	pseudoMethod pseudo = 1 << iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoProtocol
	pseudoStatus
)

// Head is a decoded head or trailer section that was checked by RFC 9113 §8. It belongs
// to its Conn and is good until the next call of [Conn.Next].
type Head struct {
	// TooLarge says that a request is beyond MaxHeadSize or MaxFields: nothing else is
	// known of it. The stream is open, for a 431.
	TooLarge bool

	form    headForm
	lines   []byte // fields as HTTP/1.1 has them, without pseudo-header fields, host, cookies, te
	special []byte // what the spans below lie in
	cookie  []byte // crumbs joined (RFC 9113 §8.2.3)
	fault   string // the first fault
	size    int
	fields  int
	length  int64 // content-length; -1: not said
	seen    pseudo
	status  int

	method, scheme, authority, path, protocol, host span

	hasHost   bool
	regular   bool // a field that is not a pseudo-header field came
	trailers  bool // te: trailers
	connect   bool // CONNECT, plain or extended
	upgrade   bool // extended CONNECT
	bodiless  bool // of a response: no DATA
	unbounded bool // DATA follows, nobody says how much
	empty     bool // of a response that could have a body and has none
}

// span is a range of Head.special.
type span struct{ from, to int }

func (h *Head) reset(form headForm) {
	lines, special, cookie := h.lines[:0], h.special[:0], h.cookie[:0]
	if cap(lines)+cap(special)+cap(cookie) > 16<<10 {
		lines, special, cookie = nil, nil, nil // a large one is rare
	}
	*h = Head{form: form, lines: lines, special: special, cookie: cookie, length: -1}
}

func (h *Head) bytes(s span) []byte { return h.special[s.from:s.to] }

// Method returns :method; for an extended CONNECT, too.
func (h *Head) Method() []byte { return h.bytes(h.method) }

// Scheme returns :scheme.
func (h *Head) Scheme() []byte { return h.bytes(h.scheme) }

// Authority returns :authority, or host when the request has none.
func (h *Head) Authority() []byte {
	if h.authority == (span{}) {
		return h.bytes(h.host)
	}
	return h.bytes(h.authority)
}

// Path returns :path.
func (h *Head) Path() []byte { return h.bytes(h.path) }

// Protocol returns :protocol of an extended CONNECT.
func (h *Head) Protocol() []byte { return h.bytes(h.protocol) }

// Status returns :status.
func (h *Head) Status() int { return h.status }

// ContentLength returns what content-length says, -1 without.
func (h *Head) ContentLength() int64 { return h.length }

// Value returns the first value of the field called name, which is in lower case, or
// nil. Host, cookie and te are not found here: they are part of the text.
func (h *Head) Value(name string) []byte {
	for rest := h.lines; len(rest) > 0; {
		var n, v []byte
		n, v, rest = CutField(rest)
		if string(n) == name {
			return v
		}
	}
	return nil
}

// blame records a fault; the first one counts.
func (h *Head) blame(fault string) {
	if h.fault == "" {
		h.fault = fault
	}
}

// add takes in a field that was decoded. It copies what it keeps.
func (h *Head) add(name, value []byte) {
	h.size += len(name) + len(value) + hpackOverhead
	if h.size > MaxHeadSize {
		h.TooLarge = true
	}
	if h.TooLarge || h.fault != "" {
		return
	}
	if len(name) > 0 && name[0] == ':' {
		h.addPseudo(name, value)
		return
	}
	h.regular = true
	if !lowerToken(name) {
		h.blame("field name that is empty, not a token or not in lower case")
		return
	}
	if !fieldValue(value) {
		h.blame("field value with control bytes or space around it")
		return
	}
	kind := nameKinds(name)
	if h.form == requestForm && kind == kindCookie && len(h.cookie) > 0 { // RFC 9113 §8.2.3
		if len(value) > 0 {
			h.cookie = append(append(h.cookie, "; "...), value...)
		}
		return
	}
	if h.fields++; h.fields > MaxFields {
		h.TooLarge = true
		return
	}
	switch kind {
	case kindForbidden:
		h.blame("field that is about a connection of HTTP/1.1")
		return
	case kindTE:
		if string(value) != "trailers" || h.form != requestForm || h.trailers {
			h.blame("te other than trailers, once")
		}
		h.trailers = true
		return
	case kindHost:
		if h.hasHost || h.form != requestForm {
			h.blame("host that is repeated or not of a request")
		}
		h.hasHost = true
		h.host = h.keep(value)
		return
	case kindCookie:
		if h.form == requestForm {
			h.cookie = append(h.cookie, value...)
			return
		}
	case kindLength:
		n, ok := contentLength(value)
		if !ok || h.length >= 0 || h.form == trailerForm {
			h.blame("content-length that is malformed, repeated or a trailer")
			return
		}
		h.length = n
	}
	h.lines = append(h.lines, name...)
	h.lines = append(h.lines, ": "...)
	h.lines = append(h.lines, value...)
	h.lines = append(h.lines, "\r\n"...)
}

func (h *Head) keep(value []byte) span {
	from := len(h.special)
	h.special = append(h.special, value...)
	return span{from, len(h.special)}
}

func (h *Head) addPseudo(name, value []byte) {
	if h.regular {
		h.blame("pseudo-header field behind other fields")
		return
	}
	var bit pseudo
	var to *span
	switch string(name) {
	case ":method":
		bit, to = pseudoMethod, &h.method
	case ":scheme":
		bit, to = pseudoScheme, &h.scheme
	case ":authority":
		bit, to = pseudoAuthority, &h.authority
	case ":path":
		bit, to = pseudoPath, &h.path
	case ":protocol":
		bit, to = pseudoProtocol, &h.protocol
	case ":status":
		bit = pseudoStatus
	}
	switch {
	case h.form == requestForm && to == nil, h.form == responseForm && bit != pseudoStatus, h.form == trailerForm:
		h.blame("pseudo-header field that is unknown or does not belong here")
	case h.seen&bit != 0:
		h.blame("repeated pseudo-header field")
	case to != nil:
		*to = h.keep(value)
	default:
		h.setStatus(value)
	}
	h.seen |= bit
}

func (h *Head) setStatus(v []byte) {
	if len(v) != 3 || v[0] < '1' || v[0] > '9' || v[1] < '0' || v[1] > '9' || v[2] < '0' || v[2] > '9' {
		h.blame(":status that is not three digits")
		return
	}
	h.status = int(v[0]-'0')*100 + int(v[1]-'0')*10 + int(v[2]-'0')
}

// endRequest checks a request as a whole (RFC 9113 §8.3.1, §8.5, RFC 8441 §4).
func (h *Head) endRequest(end, extended bool) {
	if h.TooLarge || h.fault != "" {
		return
	}
	method := string(h.bytes(h.method)) // not kept: no allocation
	h.connect = method == "CONNECT"
	h.upgrade = h.seen&pseudoProtocol != 0
	var want, without pseudo = pseudoMethod | pseudoScheme | pseudoPath, pseudoProtocol
	switch {
	case h.upgrade:
		want, without = pseudoMethod|pseudoScheme|pseudoPath|pseudoAuthority|pseudoProtocol, 0
	case h.connect:
		want, without = pseudoMethod|pseudoAuthority, pseudoScheme|pseudoPath|pseudoProtocol
	}
	switch {
	case h.seen&want != want || h.seen&without != 0:
		h.blame("missing pseudo-header field, or one that the method does not have")
	case h.upgrade && (!extended || !h.connect || !protocol(h.bytes(h.protocol))):
		h.blame(":protocol that was not offered, or not with CONNECT, or malformed")
	case !token(h.bytes(h.method)):
		h.blame(":method that is not a token")
	case h.seen&pseudoScheme != 0 && !scheme(h.bytes(h.scheme)):
		h.blame(":scheme other than http and https")
	case h.seen&pseudoPath != 0 && !path(h.bytes(h.path), method == "OPTIONS"):
		h.blame(":path that is not one")
	case h.seen&pseudoAuthority != 0 && !authority(h.bytes(h.authority)):
		h.blame(":authority that is not one")
	case h.hasHost && !authority(h.bytes(h.host)):
		h.blame("host that is not an authority")
	case h.seen&pseudoAuthority == 0 && !h.hasHost:
		h.blame("neither :authority nor host")
	case h.seen&pseudoAuthority != 0 && h.hasHost && !sameFold(h.bytes(h.authority), h.bytes(h.host)):
		h.blame("host that differs from :authority")
	case h.connect && h.length >= 0:
		h.blame("content-length of a CONNECT")
	case end && h.length > 0:
		h.blame("less DATA than content-length says")
	}
	h.unbounded = !end && h.length < 0 && !h.connect
}

// endResponse checks a response as a whole (RFC 9113 §8.3.2, §8.1).
func (h *Head) endResponse(end, toHead, toConnect bool) {
	if h.TooLarge || h.fault != "" {
		return
	}
	switch {
	case h.seen&pseudoStatus == 0:
		h.blame("no :status")
	case h.status == 101:
		h.blame("101, which does not exist in HTTP/2")
	case h.status < 200 && end:
		h.blame("interim response that ends its stream")
	}
	tunnel := toConnect && h.status/100 == 2
	if tunnel {
		h.length = -1 // RFC 9110 §9.3.6
	}
	h.connect = toConnect
	h.bodiless = toHead || h.status == 204 || h.status == 304
	if h.bodiless || tunnel || h.status < 200 {
		return
	}
	if end && h.length > 0 {
		h.blame("less DATA than content-length says")
	}
	h.unbounded = !end && h.length < 0
	h.empty = end && h.length < 0
}

// Kinds of regular fields that are not just passed on.
type nameKind uint8

const (
	kindOther nameKind = iota
	kindForbidden
	kindTE
	kindHost
	kindCookie
	kindLength
)

// nameKinds tells the special names, which are in lower case.
func nameKinds(name []byte) nameKind {
	switch string(name) {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings":
		return kindForbidden // RFC 9113 §8.2.2; the last one means nothing in HTTP/2
	case "te":
		return kindTE
	case "host":
		return kindHost
	case "cookie":
		return kindCookie
	case "content-length":
		return kindLength
	}
	return kindOther
}

// Classes of bytes.
const (
	classToken     = 1 << iota // RFC 9110 §5.6.2
	classLower                 // the same without capitals
	classPath                  // what a target may hold
	classAuthority             // what an authority may hold, userinfo left out
)

// classes maps a byte to its classes; nothing writes it after start.
var classes = func() (t [256]uint8) {
	const tchar = "!#$%&'*+-.^_`|~"
	for c := '!'; c <= '~'; c++ {
		upper := 'A' <= c && c <= 'Z'
		alnum := upper || 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if alnum || in(tchar, c) {
			t[c] |= classToken
			if !upper {
				t[c] |= classLower
			}
		}
		if c != '#' {
			t[c] |= classPath
		}
		if !in(`"#,/<>?@\^`+"`{|}", c) {
			t[c] |= classAuthority
		}
	}
	return t
}()

func in(s string, c rune) bool {
	for _, r := range s {
		if r == c {
			return true
		}
	}
	return false
}

func all(b []byte, class uint8) bool {
	for _, c := range b {
		if classes[c]&class == 0 {
			return false
		}
	}
	return len(b) > 0
}

func token(b []byte) bool      { return all(b, classToken) }
func lowerToken(b []byte) bool { return all(b, classLower) }
func authority(b []byte) bool  { return all(b, classAuthority) }

func scheme(b []byte) bool { return string(b) == "http" || string(b) == "https" }

func path(b []byte, options bool) bool {
	if len(b) == 1 && b[0] == '*' {
		return options
	}
	return all(b, classPath) && b[0] == '/'
}

// protocol reports a protocol that may be upgraded to; h2c would be a way around us.
func protocol(b []byte) bool { return token(b) && !(len(b) >= 3 && sameFold(b[:3], []byte("h2c"))) }

// fieldValue reports a value without control bytes (tabs within are allowed) and
// without whitespace around it (RFC 9113 §8.2.1). Eight bytes at a time.
func fieldValue(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if first, last := b[0], b[len(b)-1]; first == ' ' || first == '\t' || last == ' ' || last == '\t' {
		return false
	}
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for ; len(b) >= 8; b = b[8:] {
		w := binary.LittleEndian.Uint64(b)
		del := w ^ ones*0x7f
		if ((w-ones*0x20)&^w|(del-ones)&^del)&tops != 0 && !plainBytes(b[:8]) {
			return false
		}
	}
	return plainBytes(b)
}

func plainBytes(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// contentLength reads digits below 2⁶³.
func contentLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return int64(n), n < 1<<63
}

// sameFold reports whether a and b are equal without regard to ASCII case.
func sameFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if x != y && (x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z') {
			return false
		}
	}
	return true
}
