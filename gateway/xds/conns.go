package xds

import (
	"crypto/tls"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/credentials"

	"github.com/isthmus-mesh/isthmus/internal/drain"
	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// conns are the connections that got through the TLS handshake. Their streams
// have no natural end, so who they are is judged again: when a certificate
// expires, and when what this gateway trusts has changed.
type conns struct {
	identity *identity.Source
	policy   identity.PeerPolicy
	log      *slog.Logger
	rejected prometheus.Counter // handshakes that failed
	open     *drain.Set
}

// conn is one of them.
type conn struct {
	net.Conn
	owner *drain.Entry
}

// admit tracks a connection until it is closed.
func (c *conns) admit(nc net.Conn, state tls.ConnectionState) net.Conn {
	addr := nc.RemoteAddr().String()
	entry := c.open.Add(func(cause error) {
		c.log.Info("a sidecar's connection ends: its certificate is accepted no more", "peer_addr", addr, "err", cause)
		_ = nc.Close() // it is over for us, whatever it says
	}, nil) // never nil: nobody drains open, gRPC closes its connections itself
	entry.Proved(state, func(cs tls.ConnectionState) error { return c.identity.Trusts(cs, c.policy) })
	return &conn{nc, entry}
}

// Close ends the connection.
func (c *conn) Close() error {
	c.owner.Remove()
	return c.Conn.Close()
}

// handshakes is the TLS of the xDS port, for gRPC: it counts the connections that
// do not get through the handshake, which gRPC drops without a word, and hands the
// others to conns. They are logged at debug only: anybody who reaches the port can
// make as many of them as he likes.
type handshakes struct {
	credentials.TransportCredentials
	conns *conns
}

// ServerHandshake is called by gRPC on a goroutine per connection.
func (h handshakes) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	nc, info, err := h.TransportCredentials.ServerHandshake(c)
	if err != nil {
		h.conns.rejected.Inc()
		h.conns.log.Debug("xds connection refused", "peer_addr", c.RemoteAddr().String(), "err", err)
		return nc, info, err
	}
	if t, ok := info.(credentials.TLSInfo); ok {
		nc = h.conns.admit(nc, t.State)
	}
	return nc, info, nil
}

// Clone is part of credentials.TransportCredentials.
func (h handshakes) Clone() credentials.TransportCredentials {
	return handshakes{h.TransportCredentials.Clone(), h.conns}
}
