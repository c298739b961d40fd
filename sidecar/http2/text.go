package http2

import (
	"bytes"
	"strconv"
)

// AppendRequestText appends a request head as HTTP/1.1 has it, for http1.Request.Parse:
//
//   - Host is :authority. Cookies are one field. te: trailers is listed in Connection.
//   - A body whose length nobody says is "transfer-encoding: chunked", which here means no
//     more than that: the stream's payload has no chunks.
//   - An extended CONNECT is a GET with Connection: Upgrade and Upgrade: :protocol
//     (RFC 8441 §5); what the stream carries behind it is the tunnel's.
func (h *Head) AppendRequestText(dst []byte) []byte {
	target := h.bytes(h.path)
	switch {
	case h.upgrade:
		dst = append(dst, "GET"...)
	case h.connect:
		dst = append(dst, "CONNECT"...)
		target = h.bytes(h.authority)
	default:
		dst = append(dst, h.bytes(h.method)...)
	}
	dst = append(dst, ' ')
	dst = append(dst, target...)
	dst = append(dst, " HTTP/1.1\r\nhost: "...)
	dst = append(dst, h.Authority()...)
	dst = append(dst, "\r\n"...)
	dst = append(dst, h.lines...)
	if len(h.cookie) > 0 {
		dst = append(dst, "cookie: "...)
		dst = append(dst, h.cookie...)
		dst = append(dst, "\r\n"...)
	}
	if h.upgrade {
		dst = append(dst, "upgrade: "...)
		dst = append(dst, h.bytes(h.protocol)...)
		dst = append(dst, "\r\n"...)
	}
	switch {
	case h.trailers && h.upgrade:
		dst = append(dst, "te: trailers\r\nconnection: te, upgrade\r\n"...)
	case h.trailers:
		dst = append(dst, "te: trailers\r\nconnection: te\r\n"...)
	case h.upgrade:
		dst = append(dst, "connection: upgrade\r\n"...)
	}
	if h.unbounded {
		dst = append(dst, "transfer-encoding: chunked\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// AppendResponseText appends a response head as HTTP/1.1 has it, for http1.Response.Parse.
// What of a body is not said by content-length is as in [Head.AppendRequestText]; a body
// that could be and is not is "content-length: 0". upgrade, the protocol that an extended
// CONNECT asked for, makes a 2xx answer the 101 of HTTP/1.1; nil: it was another request.
func (h *Head) AppendResponseText(dst, upgrade []byte) []byte {
	switched := upgrade != nil && h.connect && h.status/100 == 2
	status := h.status
	if switched {
		status = 101
	}
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, " \r\n"...)
	dst = append(dst, h.lines...)
	switch {
	case switched:
		dst = append(dst, "connection: upgrade\r\nupgrade: "...)
		dst = append(dst, upgrade...)
		dst = append(dst, "\r\n"...)
	case h.unbounded:
		dst = append(dst, "transfer-encoding: chunked\r\n"...)
	case h.empty:
		dst = append(dst, "content-length: 0\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// AppendTrailersText appends the fields of a trailer section as lines, without a blank
// one behind them: for CutField.
func (h *Head) AppendTrailersText(dst []byte) []byte { return append(dst, h.lines...) }

// CutField cuts the first field off lines that AppendTrailersText wrote.
func CutField(lines []byte) (name, value, rest []byte) {
	colon := bytes.IndexByte(lines, ':')
	end := colon + bytes.IndexByte(lines[colon:], '\r')
	return lines[:colon], lines[colon+2 : end], lines[end+2:]
}
