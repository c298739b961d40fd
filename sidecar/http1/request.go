package http1

import "bytes"

// Method is a request method that the engine or its driver treats in its own way.
type Method uint8

// The registered methods; every other token is Other.
const (
	Other Method = iota
	Get
	Head
	Post
	Put
	Delete
	Connect
	Options
	Trace
	Patch
)

// Idempotent reports whether a request may be sent again after an attempt whose
// outcome is not known (RFC 9110 §9.2.2).
func (m Method) Idempotent() bool {
	switch m {
	case Get, Head, Put, Delete, Options, Trace:
		return true
	}
	return false
}

// Request is a parsed request head. It is meant to be reused; the zero value is ready.
// What its methods return points into the buffer that the last Parse was
// given and is good until that buffer changes.
type Request struct {
	head
	Method  Method
	started bool // Reset was called
	method  span
	target  span
	// An absolute-form target in its parts; empty otherwise.
	authority span
	path      span
	absolute  bool
}

// Reset makes r ready for the next request.
func (r *Request) Reset() {
	r.reset()
	r.Method, r.started = Other, true
	r.method, r.target, r.authority, r.path, r.absolute = span{}, span{}, span{}, span{}, false
}

// Parse consumes a request head from the start of b, which holds all that arrived
// since Reset. It returns the head's length once it is complete, and 0 when more
// is needed; then Parse is called again with the same bytes and more behind them.
// An error is an [*Error] and final: the connection has no known state any more.
func (r *Request) Parse(b []byte) (int, error) {
	if !r.started {
		r.Reset()
	}
	if r.lines == 0 && len(b) > 0 {
		if err := alien(b[0]); err != nil {
			return 0, err
		}
	}
	for r.lines == 0 {
		line, start, ok, err := r.line(b)
		if !ok || err != nil {
			return 0, err
		}
		if len(line) == 0 && start == 0 {
			continue // one empty line before a request is forgiven, RFC 9112 §2.2
		}
		if err := r.requestLine(line, uint32(start)); err != nil {
			return 0, err
		}
		r.lines++
	}
	done, err := r.parseFields(b)
	if !done || err != nil {
		return 0, err
	}
	if r.http10 {
		r.expects = false // RFC 9110 §10.1.1
	}
	if err := r.framing(); err != nil {
		return 0, err
	}
	if r.hosts == 0 && !r.http10 {
		return 0, ErrHost
	}
	r.started = false
	return r.pos, nil
}

// alien tells by its first byte a protocol that may never send a line end: waiting
// for one would leave the client without an answer.
func alien(first byte) error {
	const handshake = 0x16 // a TLS record
	switch {
	case first == handshake:
		return ErrTLS
	case first < ' ' && first != '\r' && first != '\n' && first != '\t':
		return ErrControl
	}
	return nil
}

// requestLine reads "method SP request-target SP HTTP-version".
func (r *Request) requestLine(line []byte, at uint32) error {
	sp := bytes.IndexByte(line, ' ')
	if sp <= 0 {
		return ErrRequestLine
	}
	if !all(line[:sp], classToken) {
		return ErrMethod
	}
	r.method = span{at, at + uint32(sp)}
	r.Method = methodOf(line[:sp])
	rest := line[sp+1:]
	last := bytes.LastIndexByte(rest, ' ')
	if last <= 0 {
		return ErrRequestLine
	}
	switch v := rest[last+1:]; {
	case string(v) == "HTTP/1.1":
	case string(v) == "HTTP/1.0":
		r.http10 = true
	case string(line) == "PRI * HTTP/2.0":
		return ErrHTTP2
	case len(v) == 8 && string(v[:5]) == "HTTP/" && v[6] == '.':
		return ErrVersion
	default:
		return ErrRequestLine
	}
	target := rest[:last]
	if !isTarget(target) {
		return ErrTarget
	}
	from := at + uint32(sp) + 1
	r.target = span{from, from + uint32(len(target))}
	return r.parseTarget(target, from)
}

// isTarget reports whether every byte of t may stand in a request target. A "%" that
// begins no escape is refused in the path, as nginx and net/http do, and passes in
// the query, which is the program's own.
func isTarget(t []byte) bool {
	for i, c := range t {
		if c == '?' {
			return all(t[i:], classQuery)
		}
		if classes[c]&classPath == 0 && !isEscape(t[i:]) {
			return false
		}
	}
	return true
}

// parseTarget tells the four forms of RFC 9112 §3.2 apart.
func (r *Request) parseTarget(t []byte, at uint32) error {
	switch {
	case r.Method == Connect: // authority-form
		if port, ok := portOf(t); !ok || len(port) == 0 {
			return ErrTarget
		}
		return nil
	case t[0] == '/': // origin-form
		return nil
	case len(t) == 1 && t[0] == '*': // asterisk-form
		if r.Method != Options {
			return ErrTarget
		}
		return nil
	}
	skip := 0 // absolute-form
	switch {
	case len(t) > 7 && equalFold(t[:7], "http://"):
		skip = 7
	case len(t) > 8 && equalFold(t[:8], "https://"):
		skip = 8
	default:
		return ErrTarget
	}
	end := skip
	for end < len(t) && t[end] != '/' && t[end] != '?' {
		end++
	}
	if !isAuthority(t[skip:end]) {
		return ErrTarget
	}
	r.absolute = true
	r.authority = span{at + uint32(skip), at + uint32(end)}
	r.path = span{at + uint32(end), at + uint32(len(t))}
	return nil
}

func methodOf(b []byte) Method {
	switch string(b) {
	case "GET":
		return Get
	case "HEAD":
		return Head
	case "POST":
		return Post
	case "PUT":
		return Put
	case "DELETE":
		return Delete
	case "CONNECT":
		return Connect
	case "OPTIONS":
		return Options
	case "TRACE":
		return Trace
	case "PATCH":
		return Patch
	}
	return Other
}

// MethodName returns the method as it came.
func (r *Request) MethodName() []byte { return r.bytes(r.method) }

// Target returns the request target as it came.
func (r *Request) Target() []byte { return r.bytes(r.target) }

// Host returns the authority that the request is for: that of an absolute-form
// target, else the Host field; empty when neither says.
func (r *Request) Host() []byte {
	if r.absolute {
		return r.bytes(r.authority)
	}
	return r.bytes(r.hostValue)
}

// IsHTTP10 reports an HTTP/1.0 request: no chunked answer, no interim answers.
func (r *Request) IsHTTP10() bool { return r.http10 }

// KeepAlive reports whether the client wants to go on after the exchange.
func (r *Request) KeepAlive() bool {
	if r.http10 {
		return r.keepAlive && !r.close
	}
	return !r.close
}

// HasID reports whether the request carries an x-request-id.
func (r *Request) HasID() bool { return r.hasID }

// Expects reports whether the client waits for 100 (Continue) before its body.
func (r *Request) Expects() bool { return r.expects }

// Upgrade returns the one protocol that the client offers to switch to, or nil.
// The body, if there is one, comes before the switch (RFC 9110 §7.8). Offers of h2c
// (a way around what an intermediary decides) are not passed on: a server may always
// ignore an offer.
func (r *Request) Upgrade() []byte {
	if r.http10 || !r.upgrading || r.upgradeTo == (span{}) {
		return nil
	}
	to := r.bytes(r.upgradeTo)
	if len(to) == 0 || bytes.IndexByte(to, ',') >= 0 || len(to) >= 3 && equalFold(to[:3], "h2c") {
		return nil
	}
	return to
}

// TakesTrailers reports whether the client says that it reads the trailers of an
// answer. The next hop is told so, since we pass them on; what else TE says is about
// codings, of which we speak none.
func (r *Request) TakesTrailers() bool { return r.trailers && r.listsTE && !r.http10 }

// Body returns the framing of the request's body.
func (r *Request) Body() Body {
	switch {
	case r.chunked:
		return Body{state: chunkSize}
	case r.length > 0:
		return Body{state: fixed, left: uint64(r.length)}
	}
	return Body{state: done}
}
