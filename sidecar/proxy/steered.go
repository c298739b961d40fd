package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/exchange"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// Steered are the listeners to which interception sends the connections that
// others make to the program's own port. Who begins the mesh's TLS there within a
// second is served as at the inbound listener.
type Steered struct {
	// Listen are host:port; ports may be 0, since nobody needs to know them.
	Listen []string
	// Permissive serves callers that do not speak the mesh's TLS, as far as the policy
	// lets in who has no identity. Otherwise they are
	// refused: an HTTP client by 403 with the reason, any other by a reset.
	//
	// A permissive TCP service is relayed as it comes, TLS included: it may be the
	// program's own. Of an HTTP service's callers identity and forwarding fields are
	// dropped, and x-forwarded-for says where they are.
	Permissive bool
}

// recordHandshake is the first byte of TLS (RFC 8446 §5.1).
const recordHandshake = 22

// errPlainCaller is why a strict service does not serve whom it cannot identify.
var errPlainCaller = &exchange.LocalReply{Status: 403, Reason: connect.RequestDenied, Detail: "only callers of the mesh are served here: call by the service's mesh name beside a sidecar, or have the service's sidecar say interception.inbound: permissive, and its policy allow anonymous"}

func (st *Steered) validate() error {
	var faults []error
	if len(st.Listen) == 0 {
		faults = append(faults, errors.New("steered: no address to listen on"))
	}
	faults = append(faults, checkHostPorts("steered", st.Listen...))
	return errors.Join(faults...)
}

// listenSteered makes the listeners for callers of the program's own port; secure is the
// inbound listener, which serves those who belong there.
func (p *Proxy) listenSteered(in Inbound, secure *server) []*server {
	var listeners []*server
	for _, address := range in.Steered.Listen {
		s := &server{
			p: p, direction: inbound, address: address,
			destination: secure.destination, label: secure.label, rewrite: secure.rewrite, retries: secure.retries, bounds: secure.bounds,
		}
		s.rewrite.Outside = true
		s.service = func(context.Context) (*upstream.Service, error) { return nil, errPlainCaller }
		if in.Steered.Permissive {
			s.service, s.access = secure.service, secure.access
		}
		s.finish()
		s.serve = func(c *client) { s.serveSteered(c, in, secure) }
		listeners = append(listeners, s)
	}
	return listeners
}

func (s *server) serveSteered(c *client, in Inbound, secure *server) {
	permissive := in.Steered.Permissive
	if permissive && in.Protocol == mesh.TCP {
		// The program may speak first: there is nothing to wait for.
		c.Stranger.Known()
		c.Caller = &policy.Caller{Anonymous: true}
		s.drive(c, in.Protocol, s.p.program, s.rewrite)
		return
	}
	said, http := sniff(c)
	_ = c.SetReadDeadline(time.Time{})
	c.Conn = relay.WithPrefix(c.Conn, said)
	switch {
	case len(said) > 0 && said[0] == recordHandshake:
		secure.serve(c)
	case http || permissive:
		c.Stranger.Known()
		c.Caller = &policy.Caller{Anonymous: true}
		rewrite := s.rewrite
		rewrite.ForwardedFor, _ = outsider(c.Accepted.RemoteAddr())
		s.drive(c, mesh.HTTP, s.p.program, rewrite)
	default:
		s.metrics.refused().Inc()
		level := slog.LevelInfo
		if !s.p.lines.Allow() {
			level = slog.LevelDebug
		}
		s.log.Log(s.p.ctx, level, "refused a caller without the mesh's TLS", "peer_addr", c.PeerAddr(), "err", errPlainCaller)
		c.Abort()
	}
}

type callerKey struct{}

// Caller returns the address of the caller for whom ctx dials the program. It is not
// valid for a connection that serves one caller after the other, and for callers of
// the mesh, whose address here is a sidecar's or a gateway's.
func Caller(ctx context.Context) netip.AddrPort {
	a, _ := ctx.Value(callerKey{}).(netip.AddrPort)
	return a
}

// calling is the context in which hosts are dialled for c.
func (s *server) calling(c *client) context.Context {
	a, ok := c.Accepted.RemoteAddr().(*net.TCPAddr)
	if !s.rewrite.Outside || !ok {
		return s.p.ctx
	}
	return context.WithValue(s.p.ctx, callerKey{}, a.AddrPort())
}
