package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
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

// steeredPort serves callers of one program's own port.
type steeredPort struct {
	*server
	of *inboundPort
}

// listenSteered makes the listeners for callers of the programs' own ports; secure is the
// inbound listener, which serves those who belong there.
func (p *Proxy) listenSteered(st Steered, secure *inboundListener) []*server {
	var listeners []*server
	for _, address := range st.Listen {
		var ports []*steeredPort
		for _, port := range secure.ports {
			s := &server{
				p: p, direction: inbound, address: address,
				destination: port.destination, label: port.label, rewrite: port.rewrite, retries: port.retries, bounds: port.bounds,
			}
			s.rewrite.Outside = true
			s.service = func(context.Context) (*upstream.Service, error) { return nil, errPlainCaller }
			if st.Permissive {
				s.service, s.access = port.service, port.access
			}
			s.finish()
			ports = append(ports, &steeredPort{s, port})
		}
		accepts := ports[0].server
		accepts.serve = func(c *client) {
			if s := calledPort(ports, c.Accepted.LocalAddr()); s != nil {
				s.serveSteered(c, st.Permissive, secure)
				return
			}
			accepts.log.Info("refused a caller of a port that is not served here", "addr", c.Accepted.LocalAddr().String())
			c.Abort()
		}
		listeners = append(listeners, accepts)
	}
	return listeners
}

// calledPort returns the port whose program a steered connection was for, which its local
// address says; nil: nobody's.
func calledPort(ports []*steeredPort, local net.Addr) *steeredPort {
	if len(ports) == 1 {
		return ports[0]
	}
	a, ok := local.(*net.TCPAddr)
	for _, s := range ports {
		if ok && int(s.of.target) == a.Port {
			return s
		}
	}
	return nil
}

func (s *steeredPort) serveSteered(c *client, permissive bool, secure *inboundListener) {
	if permissive && s.of.protocol == mesh.TCP {
		// The program may speak first: there is nothing to wait for.
		c.Stranger.Known()
		c.Caller = &policy.Caller{Anonymous: true}
		s.drive(c, mesh.TCP, s.of.program, s.rewrite)
		return
	}
	speaks := sniff(c, sniffLimit)
	switch {
	case speaks == helloTLS:
		secure.serve(c)
	case speaks.isHTTP() || permissive:
		c.Stranger.Known()
		c.Caller = &policy.Caller{Anonymous: true}
		rewrite := s.rewrite
		rewrite.ForwardedFor, _ = outsider(c.Accepted.RemoteAddr())
		if permissive {
			s.drive(c, s.of.protocol, s.of.program, rewrite)
		} else {
			s.refuse(c, rewrite, errPlainCaller)
		}
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
