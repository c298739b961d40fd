package http1

// Response is a parsed response head. It is meant to be reused; the zero value is
// ready. What its methods return points into the buffer that the last
// Parse was given and is good until that buffer changes.
type Response struct {
	head
	Status  int
	started bool
	status  span // from the status code to the end of the line, without CRLF
}

// Reset makes r ready for the next response.
func (r *Response) Reset() {
	r.reset()
	r.isResponse = true
	r.Status, r.started, r.status = 0, true, span{}
}

// Parse consumes a response head from the start of b, as [Request.Parse] does a
// request's. Whatever is wrong with a response, a gateway answers 502.
func (r *Response) Parse(b []byte) (int, error) {
	if !r.started {
		r.Reset()
	}
	if r.lines == 0 {
		// What is not HTTP may never send a line end.
		if err := notHTTP1(b); err != nil {
			return 0, err
		}
		line, start, ok, err := r.line(b)
		if !ok || err != nil {
			return 0, err
		}
		if err := r.statusLine(line, uint32(start)); err != nil {
			return 0, err
		}
		r.lines++
	}
	done, err := r.parseFields(b)
	if !done || err != nil {
		return 0, err
	}
	if err := r.framing(); err != nil {
		return 0, err
	}
	r.started = false
	return r.pos, nil
}

// notHTTP1 returns an error when b does not begin as a status line does.
func notHTTP1(b []byte) error {
	const start, alert = "HTTP/1.", 0x15 // a TLS record
	for i := range min(len(b), len(start)) {
		if b[i] != start[i] {
			if b[0] == alert {
				return ErrTLS
			}
			return ErrStatusLine
		}
	}
	return nil
}

// statusLine reads "HTTP-version SP status-code [SP reason-phrase]". The last
// space is missing from some servers' answers when they give no reason.
func (r *Response) statusLine(line []byte, at uint32) error {
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || line[8] != ' ' {
		return ErrStatusLine
	}
	switch line[7] {
	case '0':
		r.http10 = true
	case '1':
	default:
		return ErrVersion
	}
	if len(line) > 12 && line[12] != ' ' {
		return ErrStatusLine
	}
	n := 0
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return ErrStatusLine
		}
		n = n*10 + int(c-'0')
	}
	if n < 100 {
		return ErrStatusLine
	}
	r.Status = n
	r.status = span{at + 9, at + uint32(len(line))}
	return nil
}

// Interim reports a 1xx answer other than 101: the final one is still to come.
func (r *Response) Interim() bool { return r.Status < 200 && r.Status != 101 }

// KeepAlive reports whether the server goes on after the exchange, provided that
// the body has an end of its own: see [Body.UntilClose].
func (r *Response) KeepAlive() bool { return !r.http10 && !r.close }

// Upgraded returns the protocol that a 101 answer switches to, or nil.
func (r *Response) Upgraded() []byte {
	if r.Status != 101 || !r.upgrading || r.upgradeTo == (span{}) {
		return nil
	}
	return r.bytes(r.upgradeTo)
}

// ProxyStatus returns the value of the last Proxy-Status field (RFC 9209), or nil.
func (r *Response) ProxyStatus() []byte {
	if r.proxyStatus == (span{}) {
		return nil
	}
	return r.bytes(r.proxyStatus)
}

// Announces reports whether the fields speak of a body, be there one or not.
func (r *Response) Announces() bool { return r.chunked || r.length > 0 }

// bodiless reports an answer that has no body whatever its fields say.
func (r *Response) bodiless(toHead bool) bool {
	return toHead || r.Status < 200 || r.Status == 204 || r.Status == 304
}

// Body returns the framing of the response's body; toHead says that the request
// was a HEAD.
func (r *Response) Body(toHead bool) Body {
	switch {
	case r.bodiless(toHead), r.length == 0:
		return Body{state: done}
	case r.chunked:
		return Body{state: chunkSize, answer: true}
	case r.length > 0:
		return Body{state: fixed, left: uint64(r.length)}
	}
	return Body{state: untilClose}
}
