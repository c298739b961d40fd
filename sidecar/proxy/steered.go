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
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/exchange"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
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
	// Original says where a caller went whose connection was redirected; false: to the
	// connection's local address, as when Original is nil.
	Original func(net.Conn) (netip.AddrPort, bool)
	// Others are callers of ports that are nobody's here, which come as well: a permissive
	// listener connects them by this to where they went. Nil: they are refused.
	Others func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	// WayOut is what the log and a refused HTTP client are told to do; empty: what there is
	// to do beside a program.
	WayOut string
}

// recordHandshake is the first byte of TLS (RFC 8446 §5.1).
const recordHandshake = 22

// plainCaller is why a strict service does not serve whom it cannot identify.
func (st *Steered) plainCaller() error {
	out := st.WayOut
	if out == "" {
		out = "call by the service's mesh name beside a sidecar, or have the service's sidecar say interception.inbound: permissive, and its policy allow anonymous"
	}
	return &exchange.LocalReply{Status: 403, Reason: connect.RequestDenied, Detail: "only callers of the mesh are served here: " + out}
}

func (st *Steered) validate() error {
	var faults []error
	if len(st.Listen) == 0 {
		faults = append(faults, errors.New("steered: no address to listen on"))
	}
	faults = append(faults, checkHostPorts("steered", st.Listen...))
	return errors.Join(faults...)
}

// steeredListener is where callers of the programs' own ports arrive.
type steeredListener struct {
	*server // accepts, and turns away whoever belongs to no port
	cfg     Steered
	secure  *inboundListener // serves those who belong there
}

// unservedPort is the label of callers of ports that are nobody's here.
const unservedPort = "other"

// listenSteered makes the listeners for callers of the programs' own ports.
func (p *Proxy) listenSteered(st Steered, secure *inboundListener) []*server {
	var listeners []*server
	for _, address := range st.Listen {
		l := &steeredListener{cfg: st, secure: secure, server: &server{
			p: p, direction: inbound, address: address, label: unservedPort,
			rewrite: http1.RequestRewrite{Proto: "http", Outside: true}, retries: programRetries(), bounds: exchange.DefaultTimeouts(), service: st.refused,
		}}
		l.serve = l.serveSteered
		l.finish()
		listeners = append(listeners, l.server)
	}
	return listeners
}

// refused is where nobody comes who is not of the mesh.
func (st *Steered) refused(context.Context) (*upstream.Service, error) { return nil, st.plainCaller() }

// serverOf makes what serves callers of the own port of a port's program, without a listener
// of its own.
func (st *Steered) serverOf(port *inboundPort) *server {
	s := &server{
		p: port.p, direction: inbound, destination: port.destination, label: port.label,
		rewrite: port.rewrite, retries: port.retries, bounds: port.bounds, service: st.refused,
	}
	s.rewrite.Outside = true
	if st.Permissive {
		s.service, s.access = port.service, port.access
	}
	s.finish()
	return s
}

// serveSteered serves or refuses one connection.
func (l *steeredListener) serveSteered(c *client) {
	to, known := l.called(c.Accepted)
	if port := l.port(to.Port()); port != nil {
		l.servePlain(c, to, port)
		return
	}
	if l.cfg.Permissive && l.cfg.Others != nil && known {
		c.Stranger.Known()
		l.passOn(c, to, l.cfg.Others)
		return
	}
	speaks := sniff(c, sniffLimit)
	if speaks == helloTLS && l.secure.acceptor != nil {
		l.secure.serve(c)
		return
	}
	l.refusePlain(c, to, speaks, l.rewrite, l.cfg.plainCaller())
}

// called returns where a caller went; false: to this listener itself.
func (l *steeredListener) called(c net.Conn) (netip.AddrPort, bool) {
	if l.cfg.Original != nil {
		if to, ok := l.cfg.Original(c); ok {
			return to, true
		}
	}
	local, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	own, _ := l.queue.Addr().(*net.TCPAddr)
	return netip.AddrPortFrom(local.AddrPort().Addr().Unmap(), uint16(local.Port)), own == nil || own.Port != local.Port
}

// port returns the port whose program listens at the number; nil: nobody's.
func (l *steeredListener) port(number uint16) *inboundPort {
	ports := l.secure.served()
	if l.cfg.Original == nil && len(ports) == 1 {
		return ports[0] // nothing else is steered
	}
	for _, port := range ports {
		if port.target == number {
			return port
		}
	}
	return nil
}

// passOn connects c to where it went, as if no sidecar were here.
func (s *server) passOn(c *client, to netip.AddrPort, dial func(context.Context, netip.AddrPort) (net.Conn, error)) {
	there, err := dial(s.p.ctx, to)
	if err != nil {
		s.log.Debug("nobody answers a connection that is not the mesh's", "peer_addr", c.PeerAddr(), "addr", to.String(), "err", err)
		c.Abort()
		return
	}
	stats, err := relay.Copy(s.p.ctx, c.Conn, there.(relay.Conn), s.http.Timeouts.Relay)
	_ = there.Close()
	s.metrics.Relayed(stats)
	s.log.Debug("passed on a connection", "peer_addr", c.PeerAddr(), "addr", to.String(), "err", err)
}

// servePlain serves or refuses who called a program's own port.
func (l *steeredListener) servePlain(c *client, to netip.AddrPort, port *inboundPort) {
	s := port.plain
	if l.cfg.Permissive && port.protocol == mesh.TCP {
		// The program may speak first: there is nothing to wait for.
		c.Stranger.Known()
		c.Caller = &policy.Caller{Anonymous: true}
		s.drive(c, mesh.TCP, port.program, s.rewrite)
		return
	}
	speaks := sniff(c, sniffLimit)
	switch {
	case speaks == helloTLS:
		l.secure.serve(c)
	case l.cfg.Permissive:
		c.Stranger.Known()
		c.Caller = &policy.Caller{Anonymous: true}
		rewrite := s.rewrite
		rewrite.ForwardedFor, _ = outsider(c.Accepted.RemoteAddr())
		s.drive(c, port.protocol, port.program, rewrite)
	default:
		s.refusePlain(c, to, speaks, s.rewrite, l.cfg.plainCaller())
	}
}

// refusePlain refuses a caller whom nobody knows, and the log says so: an HTTP client is
// told why, any other one is reset.
func (s *server) refusePlain(c *client, to netip.AddrPort, speaks speech, rewrite http1.RequestRewrite, why error) {
	level := slog.LevelInfo
	if !s.p.lines.Allow() {
		level = slog.LevelDebug
	}
	s.log.Log(s.p.ctx, level, "refused a caller without the mesh's TLS", "peer_addr", c.PeerAddr(), "addr", to.String(), "err", why)
	if speaks.isHTTP() {
		c.Stranger.Known()
		c.Caller = &policy.Caller{Anonymous: true}
		rewrite.ForwardedFor, _ = outsider(c.Accepted.RemoteAddr())
		s.refuse(c, rewrite, why)
		return
	}
	s.metrics.refused().Inc()
	c.Abort()
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
