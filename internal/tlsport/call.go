package tlsport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// Caller is who makes a call.
type Caller struct {
	ID   identity.ID // as the handshake has proved it
	Addr net.Addr
	TLS  tls.ConnectionState
}

// CallerOf returns who makes the call of ctx, or why that is not known.
func CallerOf(ctx context.Context) (c Caller, err error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return c, errors.New("no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return c, errors.New("not a mutual TLS connection")
	}
	c.Addr, c.TLS = p.Addr, info.State
	c.ID, err = identity.PeerID(info.State)
	return c, err
}

// Receive hands on what comes by a call, and at last why nothing more does. Its goroutine ends
// with ctx, which must end the call.
func Receive[M any](ctx context.Context, recv func() (M, error)) (said <-chan M, failed <-chan error) {
	messages, end := make(chan M), make(chan error, 1)
	go func() {
		for {
			m, err := recv()
			if err != nil {
				end <- err
				return
			}
			select {
			case messages <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	return messages, end
}
