package tunnel

import (
	"net"

	"github.com/isthmus-mesh/isthmus/internal/audit"
	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// event is what the audit stream is told of the tunnel that c is a part of.
func (c *conn) event(d audit.Decision, why string) audit.Event {
	e := audit.Event{Kind: audit.Tunnel, Decision: d, From: hostOf(c.quic.RemoteAddr()), What: "gateway " + c.gateway.String(), Why: why}
	if id, err := identity.PeerID(c.quic.ConnectionState().TLS); err == nil {
		e.Who = id.String()
	}
	return e
}

// refusal is what it is told of a client that may open no tunnel, and has proved
// to be nobody that may.
func refusal(from net.Addr, why error) audit.Event {
	return audit.Event{Kind: audit.Tunnel, Decision: audit.Refused, From: hostOf(from), Why: why.Error()}
}

// hostOf returns an address without its port.
func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}
