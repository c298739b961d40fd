package tlsport

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
)

var errNotOfPort = errors.New("not a connection of a tlsport, on which HTTP/2 was agreed")

// Credentials are what a gRPC server that serves a [Port] takes: the handshake is done,
// and peers have a [credentials.TLSInfo].
func Credentials() credentials.TransportCredentials { return done{} }

type done struct{}

// ServerHandshake says what the handshake has shown.
func (done) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, ok := c.(*Conn)
	if !ok || conn.ConnectionState().NegotiatedProtocol != "h2" {
		_ = c.Close() // it was never used
		return nil, nil, errNotOfPort
	}
	return conn, credentials.TLSInfo{
		State:          conn.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

// ClientHandshake is part of credentials.TransportCredentials.
func (done) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errNotOfPort
}

// Info is part of credentials.TransportCredentials.
func (done) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone is part of credentials.TransportCredentials.
func (d done) Clone() credentials.TransportCredentials { return d }

// OverrideServerName is part of credentials.TransportCredentials.
func (done) OverrideServerName(string) error { return errNotOfPort }
