package http1

import (
	"net/http"
	"strconv"
)

// LocalReply is a response of the mesh itself.
type LocalReply struct {
	Status int
	// ProxyStatus says who answers and why (RFC 9209).
	ProxyStatus string
	Location    string // where a redirect leads; empty: it is none
	// Text is the body, plain text that tells a person what to do.
	Text     string
	Date     string // as [AppendDate] writes it; empty: not said
	Close    bool
	Bodiless bool // to a HEAD
	// GRPC says that the request is of gRPC, and so is the answer: 200, with GRPCStatus and
	// Text in fields.
	GRPC       bool
	GRPCStatus int
}

// AppendLocalReply appends a whole response. It says no-store: a 503 or a 404 of the
// mesh is about this moment, and a 404 may be cached unless told otherwise (RFC 9111
// §3, §4.2.2).
func AppendLocalReply(dst []byte, a *LocalReply) []byte {
	if a.GRPC {
		return appendGRPCReply(dst, a)
	}
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(a.Status), 10)
	dst = append(dst, ' ')
	dst = append(dst, http.StatusText(a.Status)...)
	dst = append(dst, "\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(a.Text)), 10)
	dst = append(dst, '\r', '\n')
	dst = appendReplyEnd(dst, a)
	if !a.Bodiless {
		dst = append(dst, a.Text...)
	}
	return dst
}

// appendGRPCReply appends what gRPC calls Trailers-Only: an answer that is all head.
// Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
func appendGRPCReply(dst []byte, a *LocalReply) []byte {
	dst = append(dst, "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\ngrpc-status: "...)
	dst = strconv.AppendInt(dst, int64(a.GRPCStatus), 10)
	dst = append(dst, "\r\ngrpc-message: "...)
	for i := range len(a.Text) {
		if c := a.Text[i]; c >= ' ' && c < 0x7f && c != '%' {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	dst = append(dst, "\r\nCache-Control: no-store\r\nContent-Length: 0\r\n"...)
	return appendReplyEnd(dst, a)
}

const upperHex = "0123456789ABCDEF"

// appendReplyEnd appends the fields that every answer of the mesh ends with.
func appendReplyEnd(dst []byte, a *LocalReply) []byte {
	if a.Location != "" {
		dst = appendString(dst, "Location: ", a.Location)
	}
	if a.Date != "" {
		dst = appendString(dst, dateField, a.Date)
	}
	if a.ProxyStatus != "" {
		dst = appendString(dst, proxyStatusField, a.ProxyStatus)
	}
	if a.Close {
		dst = append(dst, "Connection: close\r\n"...)
	}
	return append(dst, '\r', '\n')
}
