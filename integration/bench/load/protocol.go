package load

import "fmt"

// Protocol is what a load speaks.
type Protocol string

// The protocols: HTTP2 and GRPC are without TLS, by prior knowledge.
const (
	HTTP1 Protocol = "http1"
	HTTP2 Protocol = "http2"
	GRPC  Protocol = "grpc" // unary calls
)

// ParseProtocol reads a protocol's name.
func ParseProtocol(s string) (Protocol, error) {
	switch p := Protocol(s); p {
	case HTTP1, HTTP2, GRPC:
		return p, nil
	}
	return "", fmt.Errorf("unknown protocol %q: write http1, http2 or grpc", s)
}

// client returns a client's side of a new connection.
func (p Protocol) client(o Options) speaker {
	if p == HTTP1 {
		return newHTTP1(o)
	}
	return newHTTP2(o)
}

// speaker is the client's side of one connection, without I/O.
type speaker interface {
	// hello appends what a client says first.
	hello(out []byte) []byte
	// ready says whether a request may be made, if there is a stream for it.
	ready() bool
	// spent says that the connection serves no further request.
	spent() bool
	// request appends a request, and returns what done is told when it is answered.
	request(out []byte) ([]byte, uint32)
	// read reads messages and returns how many bytes they were. It appends to out what has to be
	// replied. Everything but the expected answer is an error.
	read(in []byte, out *[]byte, done func(id uint32)) (int, error)
}
