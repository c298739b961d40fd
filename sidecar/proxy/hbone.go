package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/exchange"
	"github.com/isthmus-mesh/isthmus/sidecar/http2"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// HBONE, as Istio's ambient mode speaks it: TCP connections are CONNECT streams of a
// shared HTTP/2 connection over mTLS. Our sidecars name the service, a ztunnel the
// address of the program:
//
//	:method CONNECT  :authority orders.shop.mesh:80   or   10.0.0.5:8080
//	:status 200, and then the connection's bytes in DATA, each way until END_STREAM
//
// A refusal is any other status, with its reason in Proxy-Status; a connection that
// breaks is RST_STREAM. Source: https://istio.io/latest/docs/ambient/architecture/hbone/.

// tunnelled is a CONNECT stream as the connection of a client.
type tunnelled struct {
	*streams.Stream

	mu   sync.Mutex
	over bool // the stream is another's
}

// Close ends our direction: what was written arrives. The stream is over once its
// goroutine returns.
func (t *tunnelled) Close() error { return t.CloseWrite() }

// Abort resets the stream. Any goroutine may call it, at any time.
func (t *tunnelled) Abort() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return nil
	}
	return t.Stream.Abort()
}

// leave says that the stream is not ours any more.
func (t *tunnelled) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
}

// openTunnel makes a stream that nothing was written on a connection to the program of a
// service. The error of a refusal is a [*connect.Refusal].
func openTunnel(stream *streams.Stream, to mesh.Destination) error {
	authority := []byte(net.JoinHostPort(to.Host(), strconv.Itoa(int(to.Port))))
	if err := stream.WriteRequest(&http2.RequestHead{Method: []byte("CONNECT"), Authority: authority}, nil, false); err != nil {
		return err
	}
	_ = stream.SetReadDeadline(time.Now().Add(tunnelTimeout))
	for {
		head, _, err := stream.ReadHead(nil)
		if err != nil {
			return err
		}
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), &http.Request{Method: http.MethodConnect})
		if err != nil {
			return err
		}
		_ = resp.Body.Close() // it reads nothing
		switch resp.StatusCode / 100 {
		case 1: // interim
		case 2:
			return stream.SetReadDeadline(time.Time{})
		default:
			return connect.RefusalOf(resp)
		}
	}
}

// isDenied reports whether a refusal is one that nobody else of the service would take back.
func isDenied(err error) bool {
	var refusal *connect.Refusal
	return errors.As(err, &refusal) && refusal.Status == http.StatusForbidden
}

// serveConnect serves one CONNECT stream on the connection of c, which it does not end.
// The policy decides about each stream anew. The bytes of a service that speaks HTTP go
// through the engine, like those of a connection; a CONNECT among them is refused, as each
// byte would be read once more for each that it is within.
func (l *inboundListener) serveConnect(ctx context.Context, c *client, stream *streams.Stream, authority string) {
	if rest := l.connectStream(ctx, c, stream, authority); rest != nil {
		over := make(chan struct{})
		rest(func() { close(over) })
		<-over
	}
}

// connectStream is serveConnect up to what needs no goroutine of its own.
func (l *inboundListener) connectStream(ctx context.Context, c *client, stream *streams.Stream, authority string) streams.Rest {
	if _, within := c.Accepted.(*tunnelled); within {
		l.refuseStream(c, stream, &exchange.LocalReply{Status: 405, Reason: connect.RequestError, Detail: "CONNECT within a CONNECT stream"})
		return nil
	}
	port, err := l.called(authority, c.Accepted.LocalAddr())
	if err != nil {
		l.refuseStream(c, stream, err)
		return nil
	}
	conn := &tunnelled{Stream: stream}
	of := &client{Conn: conn, Accepted: conn, Peer: c.Peer, Caller: c.Caller}
	if of.Open = port.conns().Add(of.End, conn.SetReadDeadline); of.Open == nil {
		stream.Reset(http2.RefusedStream) // a drain has begun: the caller may ask another
		return nil
	}
	if !l.p.callers.Take(c.Peer) {
		l.refuseStream(c, stream, &exchange.LocalReply{Status: 503, Reason: connect.ConnectionLimit, Detail: "the caller has as many connections as one may have"})
		of.Open.Remove()
		conn.leave()
		return nil
	}
	open := func() error { return stream.WriteResponse(200, nil, false) }
	switch {
	case port.protocol == mesh.Auto:
		if open() == nil {
			port.serveAuto(of, port.program, l.rewriteOf(port, c))
		}
	case !port.protocol.IsHTTP():
		port.tunnel(of, port.program, open, func(err error) { answerStream(stream, err) })
	case open() == nil:
		port.http.Serve(ctx, of, l.rewriteOf(port, c), nil)
	}
	of.Finish(func() {
		l.p.callers.Release(of.Peer)
		of.Open.Remove()
		conn.leave()
	})
	return of.Rest
}

// called returns the port that a CONNECT stream on a connection to the address at is for.
func (l *inboundListener) called(authority string, at net.Addr) (*inboundPort, error) {
	if d, err := mesh.ParseDestination(authority); err == nil {
		for _, port := range l.served() {
			if port.destination.Service == d.Service && port.destination.Port == d.Port {
				return port, nil
			}
		}
		return nil, l.notServed(authority)
	}
	wanted, err := netip.ParseAddrPort(authority)
	if err != nil {
		return nil, &exchange.LocalReply{Status: 400, Reason: connect.RequestError, Detail: "CONNECT names neither a service of the mesh with its port nor an address with one"}
	}
	here, ok := at.(*net.TCPAddr)
	if !ok || here.AddrPort().Addr().Unmap() != wanted.Addr().Unmap() {
		return nil, l.notServed(authority)
	}
	for _, port := range l.served() {
		if port.target == wanted.Port() {
			return port, nil
		}
	}
	return nil, l.notServed(authority)
}

// notServed is the reply to a CONNECT for somebody else. What is here only the log says: who
// may call none of it does not learn it.
func (l *inboundListener) notServed(authority string) error {
	reply := absent(errors.New("this sidecar does not serve what CONNECT names"))
	reply.Cause = fmt.Sprintf("CONNECT %q: here is %s", authority, l)
	return reply
}

// refuseStream answers a CONNECT stream that is served by no port.
func (l *inboundListener) refuseStream(c *client, stream *streams.Stream, why error) {
	l.acceptor.metrics.refused().Inc()
	l.acceptor.log.Debug("refused a stream", "peer_id", c.Peer, "peer_addr", c.PeerAddr(), "err", why)
	answerStream(stream, why)
}

// answerStream answers a CONNECT stream with an error.
func answerStream(stream *streams.Stream, why error) {
	reply := &exchange.LocalReply{Status: 503, Reason: connect.DestinationUnavailable, Detail: why.Error()}
	errors.As(why, &reply)
	status := connect.ProxyStatus(exchange.InboundName, reply.Reason, reply.Detail)
	_ = stream.WriteResponse(reply.Status, []streams.Field{{Name: []byte("proxy-status"), Value: []byte(status)}}, true) // who reads notices a broken connection
}

// serveShared serves the CONNECT streams of a caller.
func (l *inboundListener) serveShared(c *client) {
	_ = c.SetReadDeadline(time.Time{})
	conn := streams.Server(c.Conn, streams.Config{Idle: sharedIdle, Unread: l.p.cfg.Unread})
	c.Open.OnDrain(conn.Drain)
	err := conn.ServeRest(func(stream *streams.Stream) streams.Rest {
		head, _, err := stream.ReadHead(nil)
		if err != nil {
			return nil
		}
		method, rest, _ := bytes.Cut(head, []byte(" "))
		target, _, _ := bytes.Cut(rest, []byte(" "))
		if string(method) != "CONNECT" {
			l.refuseStream(c, stream, &exchange.LocalReply{Status: 405, Reason: connect.RequestError, Detail: "only CONNECT is served on this connection"})
			return nil
		}
		return l.connectStream(l.p.ctx, c, stream, string(target))
	})
	l.acceptor.log.Debug("connection of a caller over", "peer_id", c.Peer, "peer_addr", c.PeerAddr(), "err", err)
}
