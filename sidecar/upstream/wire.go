package upstream

import (
	"crypto/tls"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// wire is what a connection carries.
type wire uint8

const (
	wireRaw   wire = iota // bytes of some protocol
	wireHTTP1             // HTTP/1.1
	wireHTTP2             // HTTP/2, known before
	wires     = iota
)

// wireOf returns what a's requests are at the program's end.
func wireOf(p mesh.Protocol, a *Attempts) wire {
	switch {
	case a == nil && p.IsHTTP() && p != mesh.HTTP:
		return wireHTTP2
	case a == nil && p == mesh.HTTP:
		return wireHTTP1
	case a == nil || a.raw:
		return wireRaw
	case p == mesh.GRPC, p == mesh.HTTP2, p == mesh.Auto && a.http2:
		return wireHTTP2
	}
	return wireHTTP1
}

// speech is what a connection is to carry.
type speech struct {
	wire  wire
	share bool // by many, if the host agrees to HTTP/2
}

// usual is what connections carry without anybody who asks otherwise.
func (s *Service) usual() speech { return speech{wire: wireOf(s.dialConfig.Load().protocol, nil)} }

// offers returns what TLS offers.
func (s speech) offers() []string {
	switch {
	case s.wire == wireHTTP1 && s.share:
		return []string{mesh.ALPNHTTP2, mesh.ALPNHTTP1}
	case s.wire == wireHTTP1:
		return []string{mesh.ALPNHTTP1}
	case s.wire == wireHTTP2 || s.share:
		return []string{mesh.ALPNHTTP2}
	}
	return nil
}

// tlsFor returns how TLS is begun.
func (c *dialConfig) tlsFor(as speech) *tls.Config {
	switch {
	case as.share:
		return c.asked[as.wire][1]
	case c.protocol == mesh.Auto:
		return c.asked[as.wire][0]
	}
	return c.tls
}
