package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/sidecar/exchange"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// listenInbound makes the listener at which the mesh's TLS ends. A caller may negotiate
// the program's protocol or nothing; what it says is taken for that protocol in
// both cases: raw bytes for a program that speaks HTTP would pass by the engine,
// and with them any identity that the caller claims.
func (p *Proxy) listenInbound(in Inbound) *server {
	s := &server{
		p:           p,
		direction:   inbound,
		address:     in.Listen,
		destination: mesh.Destination{Service: in.Service, Port: in.Port},
		rewrite:     http1.RequestRewrite{Proto: "http"},
		retries:     programRetries(),
		bounds:      exchange.DefaultTimeouts(),
	}
	if in.Policy != nil {
		s.access = exchange.NewAccess(s.destination, in.Policy, in.Observer)
	}
	if in.Timeouts != nil {
		s.bounds = *in.Timeouts
	}
	s.label = s.destination.String()
	s.rewrite.Host = in.Service.Host()
	s.service = func(context.Context) (*upstream.Service, error) { return p.program, nil }
	s.finish()
	check := in.Peers
	if check == nil {
		check = identity.AnyMember()
	}
	config := p.cfg.Identity.ServerTLS(check, in.Protocol.ProgramALPN()...)
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return nil, checkName(s.destination, hello.ServerName)
	}
	by := "By=" + p.cfg.Identity.ID().String() + ";URI="
	s.serve = func(c *client) {
		if err := s.handshake(c, config, check); err != nil {
			if !errors.Is(err, io.EOF) { // a connection that says nothing is a port check
				s.metrics.refused().Inc()
			}
			s.log.Debug("refused a caller", "peer_addr", c.PeerAddr(), "err", err)
			return
		}
		if !s.p.callers.Take(c.Peer) {
			s.metrics.refused().Inc()
			s.log.Debug("refused a caller: it has as many connections as one may have", "peer_id", c.Peer)
			c.Abort()
			return
		}
		defer s.p.callers.Release(c.Peer)
		rewrite := s.rewrite
		rewrite.ClientCert = by + c.Peer
		s.drive(c, in.Protocol, p.program, rewrite)
	}
	return s
}

// programRetries is the policy for the program beside: there is nobody else to ask.
func programRetries() upstream.RetryPolicy {
	p := upstream.DefaultRetries()
	p.Window = 0
	return p
}

// handshake ends the mesh's TLS on c and records who called: the connection ends when
// that caller may not call any more.
func (s *server) handshake(c *client, config *tls.Config, check identity.PeerPolicy) error {
	var conn *tls.Conn
	err := s.p.turns.Handshake(c.Conn, handshakeTimeout, func(below net.Conn) error {
		conn = identity.Server(below, config)
		return conn.HandshakeContext(s.p.ctx)
	})
	if err != nil {
		return fmt.Errorf("tls handshake: %w", err)
	}
	c.Stranger.Known()
	peer, err := s.p.cfg.Identity.Peer(conn.ConnectionState())
	if err != nil {
		return err
	}
	s.p.renewals.Seen(conn.ConnectionState())
	caller := policy.CallerOf(peer)
	c.Conn, c.Peer, c.Caller = conn, peer.ID.String(), &caller
	c.Open.Proved(conn.ConnectionState(), func(cs tls.ConnectionState) error {
		err := s.p.renewals.Trusts(s.p.cfg.Identity, cs, check)
		if err != nil {
			s.log.Info("ends the connection of a caller that is not trusted any more", "peer_id", c.Peer, "err", err)
		}
		return err
	})
	return nil
}

// checkName refuses callers of other services: they were sent here by a stale
// endpoint, and what they have to say is not for this program.
func checkName(here mesh.Destination, name string) error {
	d, err := mesh.ParseServerName(name)
	if err != nil {
		return fmt.Errorf("server name: %w", err)
	}
	if d.Service != here.Service || d.Port != 0 && d.Port != here.Port {
		return fmt.Errorf("server name %s: here is %s", name, here)
	}
	return nil
}

// outsider returns the address of a client that is not on this machine.
func outsider(a net.Addr) (string, bool) {
	t, ok := a.(*net.TCPAddr)
	if !ok || t.IP.IsLoopback() {
		return "", false
	}
	return t.IP.String(), true
}
