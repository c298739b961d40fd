package entrance

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/gateway/forward"
	"github.com/isthmus-mesh/isthmus/internal/drain"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/liveness"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Config is what an Entrance needs. Its functions are called by many goroutines at a time.
type Config struct {
	// Identity is this gateway's certificate, under which it calls.
	Identity *identity.Source
	// Listen binds a port; nil: [net.Listen].
	Listen func(network, address string) (net.Listener, error)
	// Host is the address on which all ports are; empty: all of this host's.
	Host string
	// Enter opens a path. Its result is the Entrance's.
	Enter func(dest mesh.Destination, peer net.Addr) (*forward.Entered, error)
	// Answers returns the SPIFFE IDs that may answer for a destination.
	Answers func(mesh.Destination) []string

	Limits  *limit.Limits // nil: a shortage of descriptors sheds nobody
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: not registered
}

// Entrance listens for callers without a sidecar. Its methods are safe for concurrent use.
type Entrance struct {
	cfg     Config
	metrics *metrics
	wanted  state.Store[map[uint16]mesh.Destination]

	open     *drain.Set
	renewals identity.Renewals // of who answers

	mu       sync.Mutex
	refusals map[mesh.Destination]*state.Tally // of those that are wanted
}

// New returns an Entrance that listens nowhere until Run.
func New(cfg Config) (*Entrance, error) {
	if cfg.Listen == nil {
		cfg.Listen = net.Listen
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	return &Entrance{cfg: cfg, metrics: m, open: drain.NewSet(), refusals: map[mesh.Destination]*state.Tally{}}, nil
}

// Want replaces the ports that are listened on, and where each of them leads to. It keeps
// ports, which must not change. Calls that run go on.
func (e *Entrance) Want(ports map[uint16]mesh.Destination) { e.wanted.Set(ports) }

// Run listens until ctx ends, and then resets the calls that still run. It returns when all
// have ended.
func (e *Entrance) Run(ctx context.Context) error {
	base, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watch sync.WaitGroup
	watch.Go(func() { e.open.Watch(base, e.cfg.Identity.Trust().Past) })
	defer watch.Wait()
	defer cancel(nil)

	ports := listeners{e: e, ctx: base, open: map[uint16]*listener{}}
	defer ports.closeAll()
	for {
		wanted, past := e.wanted.Snapshot()
		again := state.Forever
		if ports.become(wanted) {
			again = retryBind
		}
		if !state.AwaitFor(ctx, again, past) {
			e.open.Abort()
			return nil
		}
	}
}

// Drain stops taking calls. Those that run are paths, which drain by themselves.
func (e *Entrance) Drain() { e.Want(nil) }

// listeners are the open ones, of the goroutine of Run.
type listeners struct {
	e    *Entrance
	ctx  context.Context //nolint:containedctx // of Run, for the goroutines of the listeners
	open map[uint16]*listener
	all  sync.WaitGroup
	said map[uint16]struct{} // of which it is logged that they cannot be bound
}

type listener struct {
	net.Listener
	to mesh.Destination
}

// become opens what is wanted and closes what is not. It reports whether a port could not
// be bound.
func (l *listeners) become(wanted map[uint16]mesh.Destination) (failed bool) {
	for port, open := range l.open {
		if to, ok := wanted[port]; !ok || to != open.to {
			_ = open.Close()
			delete(l.open, port)
		}
	}
	l.e.forget(wanted)
	unbound := map[uint16]struct{}{}
	for port, to := range wanted {
		if l.open[port] != nil {
			continue
		}
		if err := l.listen(port, to); err != nil {
			if _, known := l.said[port]; !known {
				l.e.cfg.Log.Error("a port of the entrance cannot be bound: it is tried again", "port", port, "service", to.String(), "err", err)
			}
			unbound[port] = struct{}{}
		}
	}
	l.said = unbound
	l.e.metrics.ports.Set(float64(len(l.open)))
	l.e.metrics.unbound.Set(float64(len(unbound)))
	return len(unbound) > 0
}

func (l *listeners) listen(port uint16, to mesh.Destination) error {
	if len(l.open) >= MaxPorts {
		return fmt.Errorf("%d ports are open already", MaxPorts)
	}
	bound, err := l.e.cfg.Listen("tcp", net.JoinHostPort(l.e.cfg.Host, strconv.Itoa(int(port))))
	if err != nil {
		return err
	}
	l.open[port] = &listener{bound, to}
	cfg := drain.AcceptConfig{Failed: l.e.metrics.acceptErrors.Inc, Log: l.e.cfg.Log}
	if l.e.cfg.Limits != nil {
		cfg.Short = l.e.cfg.Limits.Shed
	}
	l.all.Go(func() {
		l.e.open.Accept(l.ctx, bound, cfg, func(c net.Conn, _ *limit.Stranger) { l.e.serve(l.ctx, c, to) })
	})
	return nil
}

// closeAll waits for the calls, too.
func (l *listeners) closeAll() {
	for _, o := range l.open {
		_ = o.Close()
	}
	l.all.Wait()
	l.e.open.Wait()
}

// serve takes one call to its service and closes it.
func (e *Entrance) serve(ctx context.Context, c net.Conn, dest mesh.Destination) {
	conn, ok := c.(relay.Conn)
	if !ok {
		relay.Abort(c)
		return
	}
	liveness.KeepAlive(conn)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	entry := e.open.Add(cancel, nil)
	if entry == nil {
		relay.Abort(conn)
		return
	}
	defer entry.Remove()
	far, err := e.call(ctx, conn.RemoteAddr(), dest, entry)
	if err != nil {
		relay.Abort(conn)
		e.refused(ctx, dest, conn.RemoteAddr(), err)
		return
	}
	e.metrics.calls.Inc()
	e.metrics.running.Inc()
	defer e.metrics.running.Dec()
	stats, err := relay.Copy(ctx, conn, far, idle)
	e.cfg.Log.Debug("call of the entrance ended", "service", dest.String(), "peer_addr", conn.RemoteAddr().String(),
		"sent", stats.AToB, "received", stats.BToA, "err", err)
	if err != nil && stats.BToA == 0 {
		e.refused(ctx, dest, conn.RemoteAddr(), err) // in TLS 1.3 who ends it refuses after the handshake
	}
}

// call opens a path to dest and the TLS on it.
func (e *Entrance) call(ctx context.Context, peer net.Addr, dest mesh.Destination, entry *drain.Entry) (relay.Conn, error) {
	path, err := e.cfg.Enter(dest, peer)
	if err != nil {
		return nil, err
	}
	setup, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	id := e.cfg.Identity
	answers := identity.Answers(dest, e.cfg.Answers(dest))
	conn := identity.Client(path, id.ClientTLS(dest.ServerName(), answers))
	if err := conn.HandshakeContext(setup); err != nil {
		relay.Abort(conn)
		if refusal := path.Refused(); refusal != nil {
			return nil, refusal
		}
		return nil, fmt.Errorf("TLS to %s: %w", dest, err)
	}
	e.renewals.Seen(conn.ConnectionState())
	entry.Proved(conn.ConnectionState(), func(cs tls.ConnectionState) error { return e.renewals.Trusts(id.Trust(), cs, answers) })
	return conn, nil
}

// refused counts a call that was not answered, and logs some.
func (e *Entrance) refused(ctx context.Context, dest mesh.Destination, peer net.Addr, why error) {
	if ctx.Err() != nil && !errors.Is(why, context.DeadlineExceeded) {
		return
	}
	e.metrics.refused.Inc()
	e.mu.Lock()
	tally := e.refusals[dest]
	if tally == nil {
		tally = new(state.Tally)
		e.refusals[dest] = tally
	}
	e.mu.Unlock()
	var alert tls.AlertError
	hint := ""
	if errors.As(why, &alert) {
		hint = "who serves has a sidecar, which takes no caller without identity, or a policy: give the calling pod a sidecar, or the service a policy that allows this gateway"
	}
	if n := tally.Add(time.Now(), refusalsEvery); n > 0 {
		e.cfg.Log.Warn("a caller without a sidecar is not served", "service", dest.String(), "peer_addr", peer.String(), "calls", n, "err", why, "hint", hint)
	}
}

// forget drops the tallies of what is not wanted any more.
func (e *Entrance) forget(wanted map[uint16]mesh.Destination) {
	keep := make(map[mesh.Destination]bool, len(wanted))
	for _, to := range wanted {
		keep[to] = true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for d := range e.refusals {
		if !keep[d] {
			delete(e.refusals, d)
		}
	}
}
