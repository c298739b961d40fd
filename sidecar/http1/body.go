package http1

import (
	"bytes"
	"io"
	"math"
)

type bodyState uint8

const (
	done       bodyState = iota
	fixed                // left bytes of payload to come
	untilClose           // payload until the peer closes
	chunkSize            // a chunk-size line comes next
	chunkData            // left bytes of a chunk to come
	chunkEnd             // the CRLF behind a chunk's data
	trailer              // the trailer section, with its blank line
)

// Body is the framing of one message's body and the place in it. The zero value
// is a body of no bytes. It is a small value without pointers.
type Body struct {
	state bodyState
	left  uint64
	seen  int // trailer section: the start of the line that is not whole yet
	lines int // trailer section: its lines so far
	// answer says that the body is of an answer, whose trailers may say what only its head
	// could claim of a request.
	answer bool
}

// Done reports whether the whole body went through Next.
func (b *Body) Done() bool { return b.state == done }

// UntilClose reports a response body that ends with its connection (RFC 9112 §6.3).
func (b *Body) UntilClose() bool { return b.state == untilClose }

// Chunked reports whether the bytes of the body carry chunked framing.
func (b *Body) Chunked() bool { return b.state >= chunkSize }

// AtTrailers reports whether the trailer section comes next.
func (b *Body) AtTrailers() bool { return b.state == trailer }

// EachTrailer calls yield with the fields of a trailer section that [Body.Next] has consumed,
// which it is given whole. What is yielded is good as long as section is.
func EachTrailer(section []byte, yield func(Field)) {
	for {
		line, rest, _ := bytes.Cut(section, crlf)
		var f field
		if len(line) == 0 || f.parse(line, 0) != nil {
			return
		}
		yield(Field{came: line[f.name.from:f.name.to], value: line[f.value.from:f.value.to]})
		section = rest
	}
}

// Next consumes the next span of the body from the start of p. It returns how many
// bytes of p belong to it and which of them are payload. n == 0 without an error
// means that the body is done or that p holds less than a whole chunk-size line or
// trailer section: call again with more behind the same bytes. An error is an
// [*Error]; what was consumed before it may have been passed on, the connection
// must then be aborted.
func (b *Body) Next(p []byte) (n int, payload []byte, err error) {
	switch b.state {
	case fixed, chunkData:
		n = int(min(uint64(len(p)), b.left))
		b.left -= uint64(n)
		if b.left == 0 {
			if b.state == fixed {
				b.state = done
			} else {
				b.state = chunkEnd
			}
		}
		return n, p[:n], nil
	case untilClose:
		return len(p), p, nil
	case chunkSize:
		n, err = b.sizeLine(p)
		return n, nil, err
	case chunkEnd:
		switch {
		case len(p) > 0 && p[0] != '\r', len(p) > 1 && p[1] != '\n':
			return 0, nil, ErrChunkEnd
		case len(p) < 2:
			return 0, nil, nil
		}
		b.state = chunkSize
		return 2, nil, nil
	case trailer:
		n, err = b.trailerSection(p)
		return n, nil, err
	}
	return 0, nil, nil
}

// Scan consumes as much of the body as p holds, framing included: what a proxy
// passes on as it is. It returns an error only with what precedes it consumed.
func (b *Body) Scan(p []byte) (int, error) {
	total := 0
	for total < len(p) && b.state != done {
		n, _, err := b.Next(p[total:])
		total += n
		if n == 0 || err != nil {
			return total, err
		}
	}
	return total, nil
}

// Closed says what it means that the peer closed: the end of a body that lasts
// until then, nothing for one that is done, io.ErrUnexpectedEOF for the others.
func (b *Body) Closed() error {
	switch b.state {
	case done, untilClose:
		b.state = done
		return nil
	}
	return io.ErrUnexpectedEOF
}

// sizeLine reads "1*HEXDIG [chunk-ext] CRLF".
func (b *Body) sizeLine(p []byte) (int, error) {
	end := bytes.IndexByte(p[:min(len(p), MaxChunkLine)], '\n')
	digits := 0
	var size uint64
	for digits < len(p) {
		d, ok := unhex(p[digits])
		if !ok {
			break
		}
		if size > math.MaxInt64>>4 {
			return 0, ErrChunkSize
		}
		size = size<<4 | uint64(d)
		if digits++; digits > 16 { // leading zeros have no use but to confuse
			return 0, ErrChunkSize
		}
	}
	if digits == 0 && len(p) > 0 {
		return 0, ErrChunkSize
	}
	if end < 0 {
		switch {
		case len(p) >= MaxChunkLine:
			return 0, ErrChunkLine
		case !text(bytes.TrimSuffix(p[digits:], crlf[:1])):
			return 0, ErrChunkSize
		}
		return 0, nil
	}
	if p[end-1] != '\r' {
		return 0, ErrBareLF
	}
	if !isChunkExt(p[digits : end-1]) {
		return 0, ErrChunkSize
	}
	if size == 0 {
		b.state, b.seen, b.lines = trailer, 0, 0
	} else {
		b.state, b.left = chunkData, size
	}
	return end + 1, nil
}

// isChunkExt reports whether b is *( BWS ";" BWS name [ BWS "=" BWS value ] ), RFC 9112
// §7.1.1: extensions are passed on, so that nothing else may look like one.
func isChunkExt(b []byte) bool {
	for len(b) > 0 {
		b = trimLeft(b)
		if len(b) == 0 || b[0] != ';' {
			return false
		}
		b = trimLeft(b[1:])
		n := tokenLen(b)
		if n == 0 {
			return false
		}
		b = b[n:]
		value := trimLeft(b)
		if len(value) == 0 || value[0] != '=' {
			continue
		}
		value = trimLeft(value[1:])
		if n = tokenLen(value); n == 0 {
			n = quotedLen(value)
		}
		if n == 0 {
			return false
		}
		b = value[n:]
	}
	return true
}

// trailerSection consumes the field lines behind the last chunk and the blank line,
// all at once, so that nothing of a bad section is passed on. Lines are checked as
// they arrive. Fields that would change framing or routing are refused, and in a request
// those that claim who sent it: a program may merge trailers into the head.
func (b *Body) trailerSection(p []byte) (int, error) {
	for {
		i := bytes.IndexByte(p[b.seen:], '\n')
		if i < 0 {
			if len(p) >= MaxTrailer {
				return 0, ErrTrailerLarge
			}
			return 0, nil
		}
		end := b.seen + i + 1
		if end > MaxTrailer {
			return 0, ErrTrailerLarge
		}
		line, ok := bytes.CutSuffix(p[b.seen:end], crlf)
		switch {
		case !ok || !text(line):
			return 0, ErrTrailer
		case len(line) == 0:
			b.state = done
			return end, nil
		}
		var f field
		if b.lines == MaxFields || f.parse(line, 0) != nil || !b.mayTrail(f.kind) {
			return 0, ErrTrailer
		}
		b.lines++
		b.seen = end
	}
}

// mayTrail reports whether a trailer section may have a field of a kind.
func (b *Body) mayTrail(k kind) bool {
	switch k {
	case other, date:
		return true
	case requestID, proxyStatus, forwarded, forwardedProto, identity:
		return b.answer
	}
	return false
}

var crlf = []byte("\r\n")

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
