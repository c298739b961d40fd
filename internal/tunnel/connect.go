package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/quic-go/quic-go"
	"golang.org/x/time/rate"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// serverName is the SNI of all tunnels. Who the peer is says its SPIFFE ID.
const serverName = "gateway." + mesh.Domain

func quicConfig() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           acceptTimeout,
		MaxIdleTimeout:                 quicIdle,
		InitialStreamReceiveWindow:     streamWindowInitial,
		MaxStreamReceiveWindow:         streamWindowMost,
		InitialConnectionReceiveWindow: connWindowInitial,
		MaxConnectionReceiveWindow:     connWindowMost,
		MaxIncomingStreams:             streamsMost,
		MaxIncomingUniStreams:          -1,
		// Received heartbeats stay in quic-go's queue of 128 and then drop: nobody
		// reads them, to be acknowledged is their whole purpose.
		EnableDatagrams: true,
	}
}

// accept takes connections from the listener until ctx ends, each in a goroutine
// of its own.
func (e *Endpoint) accept(ctx context.Context, ln *quic.Listener) {
	for {
		conn, err := ln.Accept(ctx)
		if err != nil {
			return // ctx or the transport has ended
		}
		select {
		case e.handshakes <- struct{}{}:
		default:
			// Beside the loop: closing waits for the connection's own goroutine.
			e.wg.Go(func() { closeConn(conn, &closeError{code: codeBusy, reason: "too many handshakes"}) })
			continue
		}
		e.wg.Go(func() { e.welcome(ctx, conn) })
	}
}

// welcome greets an accepted connection, then serves it.
func (e *Endpoint) welcome(ctx context.Context, conn *quic.Conn) {
	greetCtx, cancel := context.WithTimeout(ctx, acceptTimeout)
	defer cancel()
	t, err := newTunnel(e, conn, false, e.cfg.Identity.NotAfter())
	if err == nil {
		err = t.greet(greetCtx, e.admit)
	}
	<-e.handshakes
	if err != nil {
		closeConn(conn, err)
		if t != nil {
			e.remove(t, err)
		}
		e.log.Debug("connection refused", "addr", conn.RemoteAddr(), "err", err)
		return
	}
	e.serve(t)
}

// serve runs an admitted tunnel and takes it out of the table when it ends.
func (e *Endpoint) serve(t *tunnel) {
	e.remove(t, t.serve())
}

// dial makes and admits one tunnel, which then runs in a goroutine of its own.
// nth is how many connections to the gateway exist: further ones use a socket of
// their own. answered says who was there, also when it was refused.
func (e *Endpoint) dial(ctx context.Context, target Target, nth int) (_ *tunnel, answered mesh.GatewayID, err error) {
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	addr, err := e.cfg.Resolve(dialCtx, target.Addr)
	if err != nil {
		return nil, answered, err
	}
	check := identity.AnyGateway()
	if !target.Gateway.IsZero() {
		check = identity.ExactGateway(target.Gateway)
	}
	transport, release, err := e.transportFor(nth)
	if err != nil {
		return nil, answered, err
	}
	ownUntil := e.cfg.Identity.NotAfter()
	conn, err := transport.Dial(dialCtx, addr, e.cfg.Identity.ClientTLS(serverName, check, alpn), quicConfig())
	if err != nil {
		release()
		return nil, answered, err
	}
	t, err := newTunnel(e, conn, true, ownUntil)
	if err == nil {
		answered = t.gateway
		err = t.greet(dialCtx, e.admit)
	}
	if err != nil {
		if cause := context.Cause(conn.Context()); cause != nil {
			err = cause // why the peer closed it says more than that it is closed
		}
		closeConn(conn, err)
		if t != nil {
			e.remove(t, err)
		}
		release()
		return nil, answered, err
	}
	e.wg.Go(func() {
		e.serve(t)
		release()
	})
	return t, answered, nil
}

// closeConn closes a connection that was not admitted.
func closeConn(conn *quic.Conn, err error) {
	c, ok := errors.AsType[*closeError](err)
	if !ok {
		c = &closeError{code: codeProtocol, reason: err.Error()}
	}
	_ = conn.CloseWithError(quic.ApplicationErrorCode(c.code), c.reason)
}

// transportFor returns the transport to dial the nth connection to a gateway
// from, and what to call when that connection has ended.
func (e *Endpoint) transportFor(nth int) (_ *quic.Transport, release func(), err error) {
	if nth == 0 || e.cfg.ListenPacket == nil {
		return e.transport, func() {}, nil
	}
	conn, err := e.cfg.ListenPacket()
	if err != nil {
		return nil, nil, fmt.Errorf("open a socket to dial from: %w", err)
	}
	growReceiveBuffer(conn)
	t := e.newTransport(conn)
	return t, func() { closeTransport(t, conn) }, nil
}

func (e *Endpoint) newTransport(conn net.PacketConn) *quic.Transport {
	key := quic.StatelessResetKey(e.cfg.ResetKey)
	return &quic.Transport{Conn: conn, StatelessResetKey: &key}
}

// closeTransport ends a transport without connections, then its socket.
func closeTransport(t *quic.Transport, conn net.PacketConn) {
	_ = t.Close()    // fails only when the socket's deadline cannot be set
	_ = conn.Close() // nothing is queued in it
}

// serverTLS is the identity's configuration, and says who was refused and why:
// the peer only learns that it was.
func (e *Endpoint) serverTLS() *tls.Config {
	base := e.cfg.Identity.ServerTLS(identity.AnyGateway(), alpn)
	lines := rate.NewLimiter(refusalsLogged, refusalsLogged)
	conf := base.Clone()
	conf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		from := hello.Conn.RemoteAddr()
		c := base.Clone()
		c.VerifyConnection = func(state tls.ConnectionState) error {
			err := base.VerifyConnection(state)
			if err != nil {
				e.metrics.refused.Inc()
				if lines.Allow() {
					e.log.Warn("a client that may not open a tunnel was refused", "addr", from, "err", err)
				}
			}
			return err
		}
		return c, nil
	}
	return conf
}

// verifySource returns whether a client must prove its address first: only when
// handshakes come faster than unverified per second.
func verifySource() func(net.Addr) bool {
	limiter := rate.NewLimiter(unverified, unverified)
	return func(net.Addr) bool { return !limiter.Allow() }
}
