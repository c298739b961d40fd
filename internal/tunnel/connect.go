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
		InitialStreamReceiveWindow:     initialStreamWindow,
		MaxStreamReceiveWindow:         maxStreamWindow,
		InitialConnectionReceiveWindow: initialConnWindow,
		MaxConnectionReceiveWindow:     maxConnWindow,
		MaxIncomingStreams:             maxStreams,
		MaxIncomingUniStreams:          -1,
		InitialPacketSize:              basePacketSize,
		EnableDatagrams:                true,
	}
}

// acceptConns takes connections from the listener until ctx ends, each in a goroutine
// of its own.
func (n *Node) acceptConns(ctx context.Context, ln *quic.Listener) {
	for {
		q, err := ln.Accept(ctx)
		if err != nil {
			return // ctx or the transport has ended
		}
		n.wg.Go(func() { n.accept(ctx, q) })
	}
}

// accept shakes hands on a connection that a peer dialled, then serves it.
func (n *Node) accept(ctx context.Context, q *quic.Conn) {
	helloCtx, cancel := context.WithTimeout(ctx, acceptTimeout)
	defer cancel()
	ended(q)
	c, err := newConn(n, q, false, n.cfg.Identity.NotAfter())
	if err == nil {
		err = n.greet(helloCtx, c)
	}
	if err != nil {
		closeConn(q, err)
		if c != nil {
			n.table.remove(c, err)
		}
		n.log.Debug("connection refused", "peer_addr", q.RemoteAddr(), "err", err)
		return
	}
	n.serve(c)
}

// greet exchanges hellos on a connection whose gateway is known, unless too many of its
// cluster's have not said theirs.
func (n *Node) greet(ctx context.Context, c *conn) error {
	if !n.greeting.Take(c.gateway.Cluster) {
		return &closeError{code: codeBusy, reason: "too many connections without a hello"}
	}
	defer n.greeting.Release(c.gateway.Cluster)
	return c.handshake(ctx, n.admit)
}

// serve runs an admitted connection and takes it out of the table when it ends.
func (n *Node) serve(c *conn) {
	n.table.remove(c, c.serve())
}

// closeConn closes a connection that was not admitted.
func closeConn(q *quic.Conn, err error) {
	c, ok := errors.AsType[*closeError](err)
	if !ok {
		c = &closeError{code: codeProtocol, reason: err.Error()}
	}
	_ = q.CloseWithError(quic.ApplicationErrorCode(c.code), c.reason)
}

// transportFor returns the transport to dial the nth connection to a gateway
// from, and what to call when that connection has ended.
func (n *Node) transportFor(nth int) (_ *quic.Transport, release func(), err error) {
	if nth == 0 || n.cfg.ListenPacket == nil {
		return n.transport, func() {}, nil
	}
	socket, err := n.cfg.ListenPacket()
	if err != nil {
		return nil, nil, fmt.Errorf("open a socket to dial from: %w", err)
	}
	growReceiveBuffer(socket)
	t := n.newTransport(socket)
	return t, func() { closeTransport(t, socket) }, nil
}

func (n *Node) newTransport(socket net.PacketConn) *quic.Transport {
	key := quic.StatelessResetKey(n.cfg.ResetKey)
	return &quic.Transport{Conn: socket, StatelessResetKey: &key}
}

// closeTransport ends a transport without connections, then its socket.
func closeTransport(t *quic.Transport, socket net.PacketConn) {
	_ = t.Close()      // fails only when the socket's deadline cannot be set
	_ = socket.Close() // nothing is queued in it
}

// serverTLS is the identity's configuration, and says who was refused and why:
// the peer only learns that it was.
func (n *Node) serverTLS() *tls.Config {
	base := n.cfg.Identity.ServerTLS(identity.AnyGateway(), alpn)
	lines := rate.NewLimiter(refusalsLogged, refusalsLogged)
	conf := base.Clone()
	conf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		from := hello.Conn.RemoteAddr()
		c := base.Clone()
		c.VerifyConnection = func(state tls.ConnectionState) error {
			err := base.VerifyConnection(state)
			if err != nil {
				n.metrics.refused.Inc()
				n.cfg.Audit.Add(refusal(from, err))
				if lines.Allow() {
					n.log.Warn("a client that may not open a tunnel was refused", "peer_addr", from, "err", err)
				}
			}
			return err
		}
		return c, nil
	}
	return conf
}
