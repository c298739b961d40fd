package ca

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	securityv1 "istio.io/api/security/v1alpha1"

	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/tlsport"
)

// newPort returns the port at which certificates are asked for. Who shows a certificate is
// judged again as long as the connection is open.
func (ca *CA) newPort(listener net.Listener) *tlsport.Port {
	return tlsport.New(tlsport.Config{
		Listener: listener, TLS: ca.serverTLS(), Past: ca.identity.Trust().Past,
		Trusts: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return nil
			}
			return ca.identity.Trust().Trusts(cs, ca.members())
		},
		Turns: ca.limits.Turns, Strangers: ca.limits.Port("certificates", limit.Part(strangerPart, maxStrangers)),
		Max: limit.Part(connectionPart, maxConnections), Short: ca.limits.Shed, Log: ca.log,
	})
}

// newGRPC returns the gRPC server behind that port.
func newGRPC(s securityv1.IstioCertificateServiceServer) *grpc.Server {
	g := grpc.NewServer(
		grpc.Creds(tlsport.Credentials()),
		grpc.ConnectionTimeout(prefaceTimeout),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: idleTimeout, MaxConnectionAge: maxAge, MaxConnectionAgeGrace: maxAgeGrace,
		}),
		grpc.WaitForHandlers(true),
	)
	securityv1.RegisterIstioCertificateServiceServer(g, s)
	return g
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
			if err != nil && ca.sources.Allow(limit.SourceOf(hello.Conn.RemoteAddr()), time.Now()) { // nobody fills the audit stream
				ca.tellRefused(caller{addr: hello.Conn.RemoteAddr()}, proven{}, refuse(codes.Unauthenticated, badCertificate, "%w", err))
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
	var port sync.WaitGroup
	port.Go(ca.port.Run)
	defer port.Wait()
	defer ca.grpc.Stop() // ends the connections that the port waits for
	halt := context.AfterFunc(ctx, ca.grpc.Stop)
	defer halt()
	if err := ca.grpc.Serve(ca.port); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve on %s: %w", ca.port.Addr(), err)
	}
	return nil
}
