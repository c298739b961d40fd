package forward

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/authorize"
	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// errMayNotCall is the end of a path whose client may not call the service.
var errMayNotCall = errors.New("the caller may not call the service")

// endTLS ends the client's TLS, which begins with payload, for an endpoint that has
// none, and sees that the client may call it. It may for as long as it is trusted and
// allowed to.
func (p *path) endTLS(ctx context.Context, payload []byte, served *Candidate) error {
	id := p.f.cfg.Identity
	callers := identity.AnyMember() // gateways call for who has no sidecar
	peerAddr := p.conn.RemoteAddr()
	conn := identity.Server(relay.WithPrefix(p.conn, payload), id.ServerTLS(callers, served.Protocol.ProgramALPN()...))
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("end the TLS of %s: %w", p.req.Destination.Host(), err)
	}
	p.conn = conn
	p.f.renewals.Seen(conn.ConnectionState())
	peer, err := id.Trust().Peer(conn.ConnectionState())
	if err != nil {
		return err
	}
	caller := policy.CallerOf(peer)
	call := &authorize.Call{Caller: &caller, Peer: peerAddr, To: mesh.Destination{Service: p.req.Destination.Service, Port: served.Port}}
	if refusal := p.f.refusalOf(call); refusal != nil {
		p.deny(served.Protocol, refusal)
		return fmt.Errorf("%w: %s", errMayNotCall, refusal.Details)
	}
	p.proved()
	p.proved = nil
	p.entry.Proved(conn.ConnectionState(), func(cs tls.ConnectionState) error {
		if err := p.f.renewals.Trusts(id.Trust(), cs, callers); err != nil {
			return err
		}
		return p.f.judgeAgain(call)
	})
	return nil
}

// refusalOf says why a call of a plain endpoint is refused; nil: it is not.
func (f *Forward) refusalOf(c *authorize.Call) *connect.Refusal {
	a := f.cfg.Authorizer(c.To.Service)
	if a == nil { // another gateway may know
		return connect.Refuse(http.StatusServiceUnavailable, connect.DestinationUnavailable,
			"gateway %s does not know yet who may call %s", f.cfg.Self, c.To.Service)
	}
	d := a.Plain(c.Caller, c.To.Port, f.cfg.Entrance)
	if f.cfg.Calls != nil {
		f.cfg.Calls.Decided(a, &d, c)
	}
	if d.Allowed {
		return nil
	}
	return connect.Refuse(http.StatusForbidden, connect.RequestDenied, "%s", a.Explain(d.Verdict, c.Caller))
}

// judgeAgain returns why an open call may not go on.
func (f *Forward) judgeAgain(c *authorize.Call) error {
	a := f.cfg.Authorizer(c.To.Service)
	if a == nil { // its endpoint has gone, of which it hears in another way
		return nil
	}
	d := a.Plain(c.Caller, c.To.Port, f.cfg.Entrance)
	if d.Allowed {
		return nil
	}
	if f.cfg.Calls != nil {
		f.cfg.Calls.Ended(a, &d, c)
	}
	return fmt.Errorf("%w: %s", errMayNotCall, a.Explain(d.Verdict, c.Caller))
}

// JudgeCallers judges the callers of plain endpoints again: who may call has changed.
func (f *Forward) JudgeCallers() { f.open.Judge() }

// beginsHTTP1 reports whether said begins with a whole line that ends as that of a request does
// (RFC 9112 section 3). A client of an auto port whose first line is longer is reset.
func beginsHTTP1(said []byte) bool {
	line, _, whole := bytes.Cut(said, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	return whole && (bytes.HasSuffix(line, []byte(" HTTP/1.1")) || bytes.HasSuffix(line, []byte(" HTTP/1.0")))
}

// deny tells a client who speaks HTTP why it may not call, once it has asked for
// something: what comes before a request would be taken for the answer to none. It
// is within TLS, so that nobody else reads it. Who speaks something else is reset.
func (p *path) deny(protocol mesh.Protocol, refusal *connect.Refusal) {
	if protocol == mesh.TCP {
		return
	}
	_ = p.conn.SetDeadline(time.Now().Add(headTimeout))
	said := make([]byte, firstRead)
	n, _ := p.conn.Read(said)
	said = said[:n]
	proxy := connect.ProxyName(p.f.cfg.Self)
	answer := refusal.Append(nil, proxy)
	switch {
	case isHTTP2(said):
		var err error
		if answer, err = http2Denial(relay.WithPrefix(p.conn, said), refusal, proxy); err != nil {
			return
		}
	case n == 0 || !protocol.IsHTTP() && !beginsHTTP1(said): // of auto, who would take an answer for the program's
		return
	}
	p.answered = true
	linger(p.conn, answer, lingerTimeout)
}
