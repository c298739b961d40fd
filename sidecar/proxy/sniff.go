package proxy

import (
	"bytes"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// speech is what a client's first bytes are.
type speech int

const (
	silence    speech = iota // nothing came in time: its server speaks first
	otherBytes               // no HTTP
	helloTLS                 // the first record of TLS
	speaksHTTP1
	speaksHTTP2 // by prior knowledge
)

const (
	// maxSniffed bounds how much of a client is read to tell what it speaks: a request
	// line that goes on is judged by its beginning.
	maxSniffed = 1 << 10
	// autoLimit bounds how long a client of an auto port may say nothing, or half a line,
	// before it is taken for one whose server speaks first. Programs that speak HTTP do so at once; what a
	// server that speaks first says is late by so much, on each connection.
	autoLimit = 300 * time.Millisecond
	// sniffLimit is the same for clients that cannot be served without, where nobody
	// waits: those that are refused, and callers past the mesh.
	sniffLimit = time.Second
)

// preface begins HTTP/2 (RFC 9113 §3.4).
var preface = []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

// sniff reads what c says first, for as long as that may take, and puts it back in front.
func sniff(c *client, limit time.Duration) speech {
	c.Open.Waiting(time.Now().Add(limit))
	defer c.Open.Busy()
	said := make([]byte, 0, maxSniffed)
	is, more := silence, true
	for more && len(said) < cap(said) {
		n, err := c.Read(said[len(said):cap(said)])
		said = said[:len(said)+n]
		is, more = tell(said)
		if err != nil {
			break
		}
	}
	_ = c.SetReadDeadline(time.Time{})
	c.Conn = relay.WithPrefix(c.Conn, said)
	return is
}

// tell says what begins with said, as far as that can be seen; more: further bytes may
// make it something else. A request is a method of capital letters, a target and, where the
// line's end is there, a version (RFC 9112 §3): several protocols that are not HTTP begin with
// a word and a space.
func tell(said []byte) (is speech, more bool) {
	if len(said) == 0 {
		return silence, true
	}
	if said[0] == recordHandshake {
		return helloTLS, false
	}
	if n := min(len(said), len(preface)); bytes.Equal(said[:n], preface[:n]) {
		if n == len(preface) {
			return speaksHTTP2, false
		}
		return otherBytes, true
	}
	method, target, spaced := bytes.Cut(said, []byte{' '})
	for _, b := range method {
		if b < 'A' || b > 'Z' {
			return otherBytes, false
		}
	}
	if len(method) == 0 || len(method) > maxMethod {
		return otherBytes, false
	}
	if !spaced {
		return otherBytes, true
	}
	line, _, ended := bytes.Cut(target, []byte{'\n'})
	if ended {
		line = bytes.TrimSuffix(line, []byte{'\r'})
		if i := bytes.LastIndexByte(line, ' '); i > 0 && bytes.HasPrefix(line[i:], []byte(" HTTP/")) {
			return speaksHTTP1, false
		}
		return otherBytes, false
	}
	if len(line) > 0 && line[0] == '/' || bytes.HasPrefix(line, []byte("http://")) || bytes.HasPrefix(line, []byte("https://")) {
		return speaksHTTP1, true
	}
	return otherBytes, true
}

// maxMethod bounds a method, in bytes: the longest registered one has 17.
const maxMethod = 20

// isHTTP reports whether requests follow, of either version.
func (s speech) isHTTP() bool { return s == speaksHTTP1 || s == speaksHTTP2 }

// serveAuto serves c by what it speaks. What is not HTTP, TLS included, is relayed as it
// comes; a caller of the program is watched further (firstline.go).
func (s *server) serveAuto(c *client, to *upstream.Service, rewrite http1.RequestRewrite) {
	if sniff(c, autoLimit).isHTTP() {
		s.serveHTTP(c, to, rewrite)
		return
	}
	if s.direction == outbound {
		s.serveTCP(c, to, rewrite)
		return
	}
	bytesOnly := &bytesOnly{Conn: c.Conn}
	c.Conn = bytesOnly
	s.serveTCP(c, to, rewrite)
	c.Finish(func() {
		if late := bytesOnly.late; late != nil {
			_ = c.SetReadDeadline(time.Time{})
			c.Conn = relay.WithPrefix(bytesOnly.Conn, late)
			s.serveHTTP(c, to, rewrite)
		}
	})
}
