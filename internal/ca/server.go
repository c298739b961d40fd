package ca

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	securityv1 "istio.io/api/security/v1alpha1"
)

// newServer returns the gRPC server of the port at which certificates are asked for.
func (ca *CA) newServer() *grpc.Server {
	s := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(ca.serverTLS())),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: idleTimeout, MaxConnectionAge: maxAge, MaxConnectionAgeGrace: maxAgeGrace,
		}),
		grpc.WaitForHandlers(true),
	)
	securityv1.RegisterIstioCertificateServiceServer(s, service{ca: ca})
	return s
}

// serverTLS asks every client for a certificate, takes those without, and says when one
// that is shown is not accepted: the client learns no more than that.
func (ca *CA) serverTLS() *tls.Config {
	config := ca.identity.OpenServerTLS(ca.members(), "h2")
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		own := config.Clone()
		verify := own.VerifyConnection
		own.VerifyConnection = func(cs tls.ConnectionState) error {
			err := verify(cs)
			if err != nil {
				ca.tellRefused(caller{addr: addrOf(hello.Conn.RemoteAddr())}, proven{}, refuse(codes.Unauthenticated, badCertificate, "%w", err))
			}
			return err
		}
		return own, nil
	}
	return config
}

// serve serves until ctx ends or the listener fails, and returns when every call has
// ended.
func (ca *CA) serve(ctx context.Context) error {
	halt := context.AfterFunc(ctx, ca.grpc.Stop)
	defer halt()
	if err := ca.grpc.Serve(ca.port); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve on %s: %w", ca.port.Addr(), err)
	}
	return nil
}

// from names an address in the audit stream; empty: unknown.
func from(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
