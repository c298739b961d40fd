package http1

import (
	"net/http"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// RequestRewrite is what a request is given on its way: the driver's part of the head.
// Strings must be valid field values; they are not checked again.
type RequestRewrite struct {
	Host      string // for a request that names no host
	RequestID []byte // for a request that has no x-request-id
	Proto     string // x-forwarded-proto for a request that has none
	// Outside says that the client is not of this mesh nor the program beside: its
	// X-Forwarded-…, Forwarded and X-Real-Ip fields are dropped, and ForwardedFor,
	// when set, is said instead.
	Outside      bool
	ForwardedFor string
	// Path takes the place of the target's path, whose query stays; nil: the path stays.
	// It must be one that [Request.Path] could return.
	Path []byte
	// Authority takes the place of the host that the request is for; empty: that stays.
	Authority string
	// Fields change the fields that pass; nil: none is changed. They must be none that is
	// about the connection, the framing or who calls.
	Fields *mesh.Fields
	// GRPCTimeout takes the place of grpc-timeout; nil: what came stays.
	GRPCTimeout []byte
	// ClientCert becomes x-forwarded-client-cert (as Envoy writes it): who the
	// caller proved to be. What the request claimed is always dropped.
	ClientCert string
}

// AppendRequest appends the head of r for the next hop, which speaks HTTP/1.1 and
// keeps its connection. The target is in origin-form (or "*"), hop-by-hop fields and
// claimed identities are gone, the body's framing is unchanged.
func AppendRequest(dst []byte, r *Request, o *RequestRewrite) []byte {
	dst = append(dst, r.bytes(r.method)...)
	dst = append(dst, ' ')
	dst = r.AppendTarget(dst, o.Path)
	dst = append(dst, " HTTP/1.1\r\n"...)
	if host := r.Host(); o.Authority != "" {
		dst = appendString(dst, hostField, o.Authority)
	} else if len(host) > 0 {
		dst = appendField(dst, hostField, host)
	} else {
		dst = appendString(dst, hostField, o.Host)
	}
	var run span
	r.passing(o, func(f *field) { dst, run = r.extend(dst, run, f.line) })
	dst = append(dst, r.bytes(run)...)
	if r.chunked {
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	switch trailers, up := r.TakesTrailers(), r.Upgrade(); {
	case trailers && up != nil:
		dst = append(dst, "TE: trailers\r\nConnection: TE, Upgrade\r\n"...)
	case trailers:
		dst = append(dst, "TE: trailers\r\nConnection: TE\r\n"...)
	case up != nil:
		dst = append(dst, "Connection: Upgrade\r\n"...)
	}
	r.added(o, func(f Field) { dst = f.appendLine(dst) })
	return append(dst, '\r', '\n')
}

// AppendTarget appends the target for the next hop: in origin-form, or "*". instead takes
// the place of its path when it is not nil.
func (r *Request) AppendTarget(dst, instead []byte) []byte {
	path, query := r.pathAndQuery()
	switch {
	case path == nil && r.absolute:
		return append(dst, '*')
	case path == nil:
		return append(dst, r.bytes(r.target)...)
	case instead != nil:
		path = instead
	}
	return append(append(dst, path...), query...)
}

// ResponseRewrite is what a response is given on its way to the client.
type ResponseRewrite struct {
	// HTTP10 says that the client speaks HTTP/1.0: a chunked body must reach it without
	// its framing, which the driver sees to, and then by closing.
	HTTP10 bool
	// Close says that the client's connection ends with this answer.
	Close bool
	// Via is our member of the Proxy-Status list, appended when the response has one
	// (RFC 9209 §2), so that a reader sees who passed the answer on.
	Via string
	// Bodiless says that the request was a HEAD.
	Bodiless bool
	// Date is the time as [AppendDate] writes it, for a final answer that has none (RFC
	// 9110 §6.6.1); empty: not said.
	Date string
	// Fields change the fields that pass, as those of a request do.
	Fields *mesh.Fields
}

// AppendResponse appends the head of r for the client.
func AppendResponse(dst []byte, r *Response, b *ResponseRewrite) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = append(dst, r.bytes(r.status)...)
	if r.status.to-r.status.from == 3 {
		dst = append(dst, ' ')
	}
	dst = append(dst, '\r', '\n')
	up := r.Upgraded()
	var run span
	r.passing(b, func(f *field) { dst, run = r.extend(dst, run, f.line) })
	dst = append(dst, r.bytes(run)...)
	r.added(b, func(f Field) { dst = f.appendLine(dst) })
	if r.chunked && !b.HTTP10 && !r.bodiless(b.Bodiless) {
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	switch {
	case r.Interim():
	case up != nil:
		dst = append(dst, "Connection: Upgrade\r\n"...)
	case b.Close:
		dst = append(dst, "Connection: close\r\n"...)
	case b.HTTP10:
		dst = append(dst, keepAliveField+"\r\n"...)
	}
	return append(dst, '\r', '\n')
}

// AppendDate appends t as a Date field has it (RFC 9110 §5.6.7). It is for a driver
// to keep for the rest of the second.
func AppendDate(dst []byte, t time.Time) []byte { return t.UTC().AppendFormat(dst, http.TimeFormat) }
