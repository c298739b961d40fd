package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/sidecar/exchange"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// inboundListener is where the mesh's TLS ends: at one address for every port that is
// served. The ClientHello's server name says which one a connection is for.
type inboundListener struct {
	p        *Proxy
	cfg      Inbound
	acceptor *server // accepts, and counts those of whom nothing is known yet; nil: nothing is served, ever
	check    identity.PeerPolicy
	tls      *tls.Config
	by       string // the part of x-forwarded-client-cert that is always the same

	ports atomic.Pointer[[]*inboundPort] // what is served now; the slice never changes
}

// inboundPort is one port of a service, whose program is beside.
type inboundPort struct {
	*server
	protocol mesh.Protocol
	target   uint16 // the program's port
	program  *upstream.Service
	tls      *tls.Config
	of       portKey
	plain    *server // serves or refuses callers of the program's own port; nil: none come here
}

// listenInbound makes the listener for the callers of every port.
func (p *Proxy) listenInbound(in Inbound) *inboundListener {
	l := &inboundListener{p: p, cfg: in, check: in.Peers, by: "By=" + p.cfg.Identity.ID().String() + ";URI="}
	if l.check == nil {
		l.check = identity.AnyMember()
	}
	var ports []*inboundPort
	for i := range in.Ports {
		ports = append(ports, l.servePort(&in.Ports[i]))
	}
	l.ports.Store(&ports)
	switch {
	case len(ports) > 0:
		l.acceptor = ports[0].server
	case in.Changing:
		l.acceptor = &server{p: p, direction: inbound, address: in.Listen, label: unservedPort, serve: l.serve}
		l.acceptor.finish()
	default:
		return l
	}
	l.tls = p.cfg.Identity.ServerTLS(l.check)
	shared := p.cfg.Identity.ServerTLS(l.check, mesh.ALPNHTTP2)
	l.tls.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if hello.ServerName == "" && slices.Contains(hello.SupportedProtos, mesh.ALPNHTTP2) {
			return shared, nil // each stream says whom it is for, see hbone.go
		}
		port, err := l.named(hello.ServerName)
		if err != nil {
			return nil, err
		}
		return port.tls, nil
	}
	return l
}

// servePort makes what serves callers of one port. A caller may negotiate the
// program's protocol or nothing; what it says is taken for that protocol in
// both cases: raw bytes for a program that speaks HTTP would pass by the engine,
// and with them any identity that the caller claims.
func (l *inboundListener) servePort(in *Served) *inboundPort {
	p := l.p
	d := mesh.Destination{Service: in.Service, Port: in.Port}
	connect := in.Connect
	port := &inboundPort{
		of:       keyOf(in),
		protocol: in.Protocol,
		program: upstream.Static(upstream.Config{
			Cluster: p.cfg.Identity.ID().Cluster, Log: p.log, IdleTimeout: programIdle, Dial: in.Dial, Short: p.Shed, Unread: p.cfg.Unread,
			Connect: func(mesh.Destination) time.Duration { return connect },
		}, in.Target, in.Protocol),
		tls: p.cfg.Identity.ServerTLS(l.check, inboundALPN(in.Protocol)...),
		server: &server{
			p:           p,
			direction:   inbound,
			address:     l.cfg.Listen,
			destination: d,
			label:       d.String(),
			rewrite:     http1.RequestRewrite{Proto: "http", Host: in.Service.Host()},
			retries:     programRetries(),
			bounds:      exchange.DefaultTimeouts(),
		},
	}
	if _, target, err := net.SplitHostPort(in.Target); err == nil {
		n, _ := strconv.ParseUint(target, 10, 16) // a name has no number to be called by
		port.target = uint16(n)
	}
	if in.Policy != nil {
		port.access = exchange.NewAdmission(d, in.Policy, in.Observer)
	}
	if in.Timeouts != nil {
		port.bounds = *in.Timeouts
	}
	port.service = func(context.Context) (*upstream.Service, error) { return port.program, nil }
	port.finish()
	port.serve, port.http.Connect = l.serve, l.serveConnect
	if l.cfg.Steered != nil {
		port.plain = l.cfg.Steered.serverOf(port)
	}
	return port
}

// served are the ports that are served now. The slice must not be changed.
func (l *inboundListener) served() []*inboundPort { return *l.ports.Load() }

// inboundALPN returns what a port's callers may negotiate, the first of it that they offer:
// a shared connection, or requests one after the other where there are any.
func inboundALPN(p mesh.Protocol) []string {
	if p == mesh.TCP {
		return []string{mesh.ALPNHTTP2}
	}
	return []string{mesh.ALPNHTTP2, mesh.ALPNHTTP1}
}

// serve serves who connected to the inbound listener, or began TLS at a program's port.
func (l *inboundListener) serve(c *client) {
	port, proof, err := l.handshake(c)
	if err != nil {
		if !errors.Is(err, io.EOF) { // a connection that says nothing is a port check
			l.acceptor.metrics.refused().Inc()
		}
		if plain, ok := errors.AsType[tls.RecordHeaderError](err); ok && plain.Conn != nil {
			turnAway(c, plain.RecordHeader[:])
		}
		l.acceptor.log.Debug("refused a caller", "peer_addr", c.PeerAddr(), "err", err)
		return
	}
	shared := proof.NegotiatedProtocol == mesh.ALPNHTTP2
	places := connectionPlaces
	if shared {
		places = 1
	}
	if !l.p.callers.TakeAll(c.Peer, places) {
		l.acceptor.metrics.refused().Inc()
		l.acceptor.log.Debug("refused a caller: it has as many connections as one may have", "peer_id", c.Peer)
		c.Abort()
		return
	}
	defer c.Finish(func() { l.p.callers.ReleaseAll(c.Peer, places) })
	if shared && (port == nil || port.protocol == mesh.TCP) {
		l.serveShared(c) // there is no request that could be meant
		return
	}
	rewrite := l.rewriteOf(port, c)
	switch {
	case shared:
		port.http.ServeHTTP2(l.p.ctx, c, rewrite, nil)
	case proof.NegotiatedProtocol == mesh.ALPNHTTP1:
		port.serveHTTP(c, port.program, rewrite)
	default:
		port.drive(c, port.protocol, port.program, rewrite)
	}
}

// turnAway tells a client of plain HTTP, which begins with said, that this port is for
// the mesh's TLS.
func turnAway(c *client, said []byte) {
	refusal := connect.Refuse(400, connect.RequestError, "this is a sidecar's inbound port, which takes the mesh's TLS: call the service by its mesh name beside a sidecar")
	answer := refusal.AppendPlain(nil, said, exchange.InboundName)
	_ = c.Accepted.SetDeadline(time.Now().Add(turnAwayTimeout))
	if _, err := c.Accepted.Write(answer); len(answer) == 0 || err != nil || c.CloseWrite() != nil {
		return
	}
	// What comes is read away: closing with unread bytes resets the connection, and the
	// answer may be lost with it.
	_, _ = io.Copy(io.Discard, io.LimitReader(c.Accepted, turnAwayBytes))
}

// rewriteOf is what requests of a caller that has proved who it is are given.
func (l *inboundListener) rewriteOf(port *inboundPort, c *client) http1.RequestRewrite {
	rewrite := port.rewrite
	rewrite.ClientCert = l.by + c.Peer
	return rewrite
}

// programRetries is the policy for the program beside: there is nobody else to ask.
func programRetries() upstream.RetryPolicy {
	p := upstream.DefaultRetries()
	p.Window = 0
	return p
}

// handshake ends the mesh's TLS on c and records who called: the connection ends when
// that caller may not call any more. It returns the port that was called; without a server
// name nil: the streams of a shared connection say it.
func (l *inboundListener) handshake(c *client) (*inboundPort, tls.ConnectionState, error) {
	var conn *tls.Conn
	err := l.p.turns.Handshake(c.Conn, handshakeTimeout, func(below net.Conn) error {
		conn = identity.Server(below, l.tls)
		return conn.HandshakeContext(l.p.ctx)
	})
	if err != nil {
		return nil, tls.ConnectionState{}, fmt.Errorf("tls handshake: %w", err)
	}
	c.Stranger.Known()
	proof := conn.ConnectionState()
	var port *inboundPort
	if proof.ServerName != "" {
		if port, err = l.named(proof.ServerName); err != nil {
			return nil, proof, err
		}
	}
	peer, err := l.p.cfg.Identity.Trust().Peer(proof)
	if err != nil {
		return nil, proof, err
	}
	l.p.renewals.Seen(proof)
	caller := policy.CallerOf(peer)
	c.Conn, c.Peer, c.Caller = conn, peer.ID.String(), &caller
	c.Open.Proved(proof, func(cs tls.ConnectionState) error {
		err := l.p.renewals.Trusts(l.p.cfg.Identity.Trust(), cs, l.check)
		if err != nil {
			l.acceptor.log.Info("ends the connection of a caller that is not trusted any more", "peer_id", c.Peer, "err", err)
		}
		return err
	})
	return port, proof, nil
}

// named returns the port that a server name asks for: that of its number or, without
// one, the service's first. Who names something else was sent here by a stale
// endpoint, and what it has to say is not for these programs.
func (l *inboundListener) named(name string) (*inboundPort, error) {
	d, err := mesh.ParseServerName(name)
	if err != nil {
		return nil, fmt.Errorf("server name: %w", err)
	}
	var found *inboundPort
	for _, port := range l.served() {
		switch here := port.destination; {
		case here.Service != d.Service || d.Port != 0 && d.Port != here.Port:
		case found == nil || here.Port < found.destination.Port:
			found = port
		}
	}
	if found == nil {
		return nil, fmt.Errorf("server name %s: here is %s", name, l)
	}
	return found, nil
}

// String lists what is served.
func (l *inboundListener) String() string {
	text := ""
	if len(l.served()) == 0 {
		return "nothing"
	}
	for i, port := range l.served() {
		if i > 0 {
			text += ", "
		}
		text += port.label
	}
	return text
}

// outsider returns the address of a client that is not on this machine.
func outsider(a net.Addr) (string, bool) {
	t, ok := a.(*net.TCPAddr)
	if !ok || t.IP.IsLoopback() {
		return "", false
	}
	return t.IP.String(), true
}
