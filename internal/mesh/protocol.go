package mesh

import "fmt"

// Protocol says how the bytes of a service port are read on the way. Callers of the HTTP
// protocols may speak HTTP/1.1 or HTTP/2, whatever the program speaks.
type Protocol string

// The protocols that a port may declare.
const (
	HTTP  Protocol = "http"  // requests; the program speaks HTTP/1.1
	HTTP2 Protocol = "http2" // requests; the program speaks HTTP/2 without TLS, by prior knowledge (RFC 9113 §3.3)
	GRPC  Protocol = "grpc"  // as http2, and its callers read gRPC statuses
	TCP   Protocol = "tcp"   // opaque bytes
	Auto  Protocol = "auto"  // requests or opaque bytes: each connection's first bytes say
)

// Protocols are the words for errors and documents that name all of them.
const Protocols = "http, grpc, http2, tcp or auto"

// ParseProtocol reads the word of a protocol.
func ParseProtocol(s string) (Protocol, error) {
	switch p := Protocol(s); p {
	case HTTP, HTTP2, GRPC, TCP, Auto:
		return p, nil
	}
	return "", fmt.Errorf("protocol %q: write %s", s, Protocols)
}

// ReadProtocol reads the protocol of a port as another process says it. One that this
// version does not know is carried as what every one of them is, opaque bytes: a
// newer process must not be lost to an older one.
func ReadProtocol(s string) (Protocol, error) {
	if p, err := ParseProtocol(s); err == nil {
		return p, nil
	}
	if err := CheckLabel(s); err != nil {
		return "", fmt.Errorf("protocol: %w", err)
	}
	return TCP, nil
}

// IsHTTP reports whether every connection to such a port carries requests.
func (p Protocol) IsHTTP() bool { return p == HTTP || p == HTTP2 || p == GRPC }

// The application protocols of TLS (RFC 7301) that the mesh negotiates.
const (
	ALPNHTTP1 = "http/1.1"
	ALPNHTTP2 = "h2"
)

// ProgramALPN returns what end-to-end TLS negotiates where one connection is one exchange
// with what the program speaks: on a path through gateways, at a gateway that ends
// the TLS of a plain endpoint, and between Envoy and a sidecar. None: the bytes are the
// program's, whatever they are.
func (p Protocol) ProgramALPN() []string {
	switch p {
	case HTTP:
		return []string{ALPNHTTP1}
	case HTTP2, GRPC:
		return []string{ALPNHTTP2}
	}
	return nil
}
