package xds

import (
	"net"

	"google.golang.org/grpc/credentials"
)

// handshakes counts the connections that do not get through the TLS handshake,
// which gRPC drops without a word, and hands the others to guests. They are logged at debug only: anybody who
// reaches the port can make as many of them as he likes.
type handshakes struct {
	credentials.TransportCredentials
	server *Server
}

// ServerHandshake is called by gRPC on a goroutine per connection.
func (h handshakes) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.TransportCredentials.ServerHandshake(c)
	if err != nil {
		h.server.metrics.strangers.Inc()
		h.server.log.Debug("xds connection refused", "addr", c.RemoteAddr().String(), "err", err)
		return conn, info, err
	}
	if t, ok := info.(credentials.TLSInfo); ok {
		conn = h.server.guests.admit(conn, t.State)
	}
	return conn, info, nil
}

// Clone is part of credentials.TransportCredentials.
func (h handshakes) Clone() credentials.TransportCredentials {
	return handshakes{h.TransportCredentials.Clone(), h.server}
}
