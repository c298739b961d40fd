package http1

import (
	"bytes"
	"strings"
	"testing"
)

// What a browser-like client sends: eight fields, 400 bytes.
var benchRequest = []byte("GET /catalog/items/4711?lang=en HTTP/1.1\r\nHost: orders.shop.mesh\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n" +
	"Connection: keep-alive\r\nCookie: session=0123456789abcdef0123456789abcdef\r\nx-request-id: 0b8e2f6c-7a0e-4a3c-9d52-0e8f1a2b3c4d\r\n\r\n")

var benchResponse = []byte("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 00:00:00 GMT\r\nContent-Type: application/json\r\nContent-Length: 1024\r\n" +
	"Connection: keep-alive\r\nETag: \"5f1d-61a\"\r\nAccept-Ranges: bytes\r\n\r\n")

// BenchmarkExchange is the engine's part of one exchange: read and rewrite both heads.
func BenchmarkExchange(b *testing.B) {
	var (
		q   Request
		a   Response
		out = make([]byte, 0, 4096)
		on  = RequestRewrite{Host: "orders.shop.mesh", Proto: "http"}
		bk  ResponseRewrite
	)
	b.ReportAllocs()
	b.SetBytes(int64(len(benchRequest) + len(benchResponse)))
	for b.Loop() {
		q.Reset()
		if n, err := q.Parse(benchRequest); n == 0 || err != nil {
			b.Fatal(err)
		}
		out = AppendRequest(out[:0], &q, &on)
		a.Reset()
		if n, err := a.Parse(benchResponse); n == 0 || err != nil {
			b.Fatal(err)
		}
		out = AppendResponse(out[:0], &a, &bk)
	}
}

// BenchmarkParseRequest is reading a request head alone.
func BenchmarkParseRequest(b *testing.B) {
	var q Request
	b.ReportAllocs()
	b.SetBytes(int64(len(benchRequest)))
	for b.Loop() {
		q.Reset()
		if n, err := q.Parse(benchRequest); n == 0 || err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkChunkedBody is checking a body in 4 KiB chunks, as net/http writes them.
func BenchmarkChunkedBody(b *testing.B) {
	chunk := "1000\r\n" + strings.Repeat("x", 4096) + "\r\n"
	body := bytes.Repeat([]byte(chunk), 8)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		s := Body{state: chunkSize}
		if n, err := s.Scan(body); n != len(body) || err != nil {
			b.Fatal(n, err)
		}
	}
}
