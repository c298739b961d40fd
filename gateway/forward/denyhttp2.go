package forward

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/internal/connect"
)

const (
	// maxDeniedFrames bounds what is read of a client before its first request: SETTINGS,
	// WINDOW_UPDATE and, from some, PRIORITY.
	maxDeniedFrames = 32
	maxDeniedHead   = 16 << 10 // bytes of its fields
)

// The statuses of gRPC that a refusal can have (https://grpc.github.io/grpc/core/md_doc_statuscodes.html).
const (
	grpcPermissionDenied = 7
	grpcUnavailable      = 14
)

// isHTTP2 reports whether what a client says first begins HTTP/2 (RFC 9113 §3.4), of which
// some may be missing.
func isHTTP2(said []byte) bool {
	n := min(len(said), len(http2.ClientPreface))
	return n > 0 && string(said[:n]) == http2.ClientPreface[:n]
}

// http2Denial reads a client's first request from c, for which some wait until the server
// has said SETTINGS, and returns what refuses it in HTTP/2: to a gRPC client a status of
// gRPC, in trailers only. Then GOAWAY.
func http2Denial(c io.ReadWriter, refusal *connect.Refusal, proxy string) ([]byte, error) {
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return nil, err
	}
	if err := http2.NewFramer(c, nil).WriteSettings(); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	frames := http2.NewFramer(&out, c) // what is written is in memory
	frames.SetMaxReadFrameSize(maxDeniedHead)
	frames.MaxHeaderListSize = maxDeniedHead
	frames.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for range maxDeniedFrames {
		frame, err := frames.ReadFrame()
		if err != nil {
			return nil, err
		}
		asked, ok := frame.(*http2.MetaHeadersFrame)
		if !ok {
			continue
		}
		head, body := deniedHead(refusal, proxy, asked)
		_ = frames.WriteHeaders(http2.HeadersFrameParam{StreamID: asked.StreamID, BlockFragment: head, EndHeaders: true, EndStream: len(body) == 0})
		if len(body) > 0 {
			_ = frames.WriteData(asked.StreamID, true, body)
		}
		_ = frames.WriteGoAway(asked.StreamID, http2.ErrCodeNo, nil)
		return out.Bytes(), nil
	}
	return nil, io.ErrUnexpectedEOF
}

// deniedHead is the answer's block of fields, and its body.
func deniedHead(refusal *connect.Refusal, proxy string, asked *http2.MetaHeadersFrame) (head, body []byte) {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	field := func(name, value string) { _ = e.WriteField(hpack.HeaderField{Name: name, Value: value}) }
	grpc := false
	for _, f := range asked.Fields {
		grpc = grpc || f.Name == "content-type" && strings.HasPrefix(f.Value, "application/grpc")
	}
	if grpc {
		code := grpcUnavailable
		if refusal.Status == http.StatusForbidden {
			code = grpcPermissionDenied
		}
		field(":status", "200")
		field("content-type", "application/grpc")
		field("grpc-status", strconv.Itoa(code))
		field("grpc-message", percentEncoded(refusal.Details))
	} else {
		body = []byte(refusal.Details + "\n")
		field(":status", strconv.Itoa(refusal.Status))
		field("content-type", "text/plain; charset=utf-8")
		field("content-length", strconv.Itoa(len(body)))
		field("cache-control", "no-store")
	}
	field(strings.ToLower(connect.HeaderProxyStatus), refusal.ProxyStatus(proxy))
	return block.Bytes(), body
}

// percentEncoded is text as grpc-message carries it
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
func percentEncoded(text string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c >= ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}
