package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/isthmus-mesh/isthmus/internal/drain"
	"github.com/isthmus-mesh/isthmus/internal/epoll"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/exchange"
)

// Proxy is the sidecar's data plane. Its methods may be called concurrently.
type Proxy struct {
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	servers  []*server        // all of them
	captured []*server        // of these, where interception sends the program's connections
	steered  []*server        // of these, where it sends connections to the program's port
	inbound  *inboundListener // for callers of what runs beside; nil: nothing does
	ready    chan struct{}    // closed once every listener is bound
	conns    map[direction]*drain.Set
	drivers  map[mesh.Protocol]driver
	renewals identity.Renewals // of callers

	turns     *limit.Turns
	strangers *limit.Strangers      // among the callers of the program
	lines     *rate.Limiter         // of the log, about strangers
	callers   *limit.Shares[string] // SPIFFE ID: descriptors for callers that have proved theirs

	// ctx is over when connections must end at once; kill ends it.
	ctx  context.Context
	kill context.CancelFunc

	accepts map[direction]*sync.WaitGroup // accept loops
	relays  exchange.Relays               // of both directions
	waiting epoll.Set                     // idle connections that need no goroutine; open while it serves
	mirrors *mirrors
	judging sync.WaitGroup // who judges open connections again, looks at their hosts, and waits for those that are idle

	mu         sync.Mutex
	bound      bool
	finished   map[direction]bool // nothing is accepted any more
	everServed []*inboundPort     // the ports of what runs beside, those included that are not served any more
}

// New wires a proxy and opens nothing. Its error joins all that is wrong.
func New(cfg Config) (*Proxy, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &Proxy{cfg: cfg, log: cfg.Log, ready: make(chan struct{}), drivers: drivers()}
	p.conns = map[direction]*drain.Set{outbound: drain.NewSet(), inbound: drain.NewSet()}
	p.accepts = map[direction]*sync.WaitGroup{outbound: {}, inbound: {}}
	p.finished = map[direction]bool{}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if p.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	limits, err := limit.New(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p.turns, p.strangers = limits.Turns, limits.Port("inbound", limit.Part(strangerPart, maxStrangers))
	p.lines = rate.NewLimiter(rate.Every(time.Second), maxLines)
	p.callers = limit.NewShares[string](connectionPlaces*limit.Part(inboundPart, maxConnections), callerMultiple)
	p.ctx, p.kill = context.WithCancel(context.Background())
	p.mirrors = newMirrors(p)
	for _, e := range cfg.Explicit {
		p.servers = append(p.servers, p.listenExplicit(e))
	}
	if cfg.Captured != nil {
		p.captured = p.listenCaptured(*cfg.Captured)
		p.servers = append(p.servers, p.captured...)
	}
	if in := cfg.Inbound; in != nil {
		p.inbound = p.listenInbound(*in)
		p.everServed = slices.Clone(p.inbound.served())
		if p.inbound.acceptor != nil {
			p.servers = append(p.servers, p.inbound.acceptor)
		}
		if in.Steered != nil {
			p.steered = p.listenSteered(*in.Steered, p.inbound)
			p.servers = append(p.servers, p.steered...)
		}
	}
	return p, nil
}

// Run binds every listener, then serves until ctx ends or Shutdown is called, and
// returns when no connection is accepted any more. Connections that run then go on
// until [Proxy.Shutdown], which must be called in any case. Its error names the
// listener that could not be bound; then nothing was served.
func (p *Proxy) Run(ctx context.Context) error {
	if err := p.bind(ctx); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { p.closeListeners(inbound, outbound) })
	defer stop()
	for _, d := range []direction{inbound, outbound} {
		p.accepts[d].Wait()
	}
	return nil
}

// bind opens all listeners or none, then starts the accept loops.
func (p *Proxy) bind(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bound || p.finished[inbound] || p.finished[outbound] {
		return errors.New("proxy: Run after Run or Shutdown")
	}
	if err := p.waiting.Open(); err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	if err := listenAll(ctx, p.servers); err != nil {
		p.waiting.Close()
		return err
	}
	p.bound = true
	p.judging.Go(func() { p.waiting.Run(p.ctx) })
	for _, s := range p.servers {
		s.start()
	}
	p.judging.Go(func() { p.relays.Watch(p.ctx) })
	for _, port := range p.everServed {
		p.judge(port)
	}
	if p.cfg.Identity != nil {
		for _, open := range p.conns {
			p.judging.Go(func() { open.Watch(p.ctx, p.cfg.Identity.Trust().Past) })
		}
	}
	close(p.ready)
	return nil
}

// listenAll opens the listeners of all servers or of none.
func listenAll(ctx context.Context, servers []*server) error {
	var faults []error
	var plain net.ListenConfig
	plain.SetMultipathTCP(false) // no socket map takes those, see Captured
	for _, s := range servers {
		l, err := plain.Listen(ctx, "tcp", s.address)
		if err != nil {
			faults = append(faults, fmt.Errorf("listen for %s: %w", s.label, err))
			continue
		}
		s.queue = &queue{TCPListener: l.(*net.TCPListener), conns: s.conns()}
	}
	err := errors.Join(faults...)
	if err != nil {
		for _, s := range servers {
			if s.queue != nil {
				_ = s.queue.Close()
				s.queue = nil
			}
		}
	}
	return err
}

// start has the server accept. The caller holds p.mu.
func (s *server) start() {
	s.p.accepts[s.direction].Go(s.accept)
	s.p.log.Info("listening", "addr", s.queue.Addr().String(), "service", s.label, "direction", s.direction)
}

// Shed ends half of the callers that have not said who they are and the older half of
// the idle connections, of every listener and to every host: the process is out of
// descriptors.
func (p *Proxy) Shed() {
	p.strangers.Shed()
	for _, open := range p.conns {
		open.Shed()
	}
	for _, port := range p.programs() {
		port.program.Shed()
	}
	if p.cfg.Upstreams != nil {
		p.cfg.Upstreams.Shed()
	}
}

// Ready is closed once every listener is bound.
func (p *Proxy) Ready() <-chan struct{} { return p.ready }

// Captured returns the listeners for the program's captured connections, in the
// order of Config.Captured.Listen; nil before Ready. They are plain TCP, so that
// they can be handed to a socket map.
func (p *Proxy) Captured() []net.Listener { return p.listeners(p.captured) }

// Steered is [Proxy.Captured] for connections to the program's own port.
func (p *Proxy) Steered() []net.Listener { return p.listeners(p.steered) }

func (p *Proxy) listeners(of []*server) []net.Listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	var listeners []net.Listener
	for _, s := range of {
		if s.queue != nil {
			listeners = append(listeners, s.queue.TCPListener)
		}
	}
	return listeners
}

func (p *Proxy) closeListeners(of ...direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.servers {
		if s.queue != nil && slices.Contains(of, s.direction) {
			_ = s.queue.Close()
		}
	}
}

// ShutdownInbound accepts no callers of the program any more, closes their idle
// connections, and returns when the others have ended, or with ctx's error when that
// ends first: they go on then. The program's own connections are not touched.
func (p *Proxy) ShutdownInbound(ctx context.Context) error { return p.drain(ctx, inbound) }

// Shutdown accepts nothing more, closes idle connections, and waits for exchanges
// and TCP connections to end. When ctx ends first the rest is aborted and Shutdown
// returns ctx's error. On return no goroutine of the proxy runs any more.
func (p *Proxy) Shutdown(ctx context.Context) error {
	var both sync.WaitGroup
	var in, out error
	both.Go(func() { in = p.drain(ctx, inbound) })
	both.Go(func() { out = p.drain(ctx, outbound) })
	both.Wait()
	p.kill()
	for d, conns := range p.conns {
		conns.Abort()
		<-conns.Drain(time.Now())
		p.accepts[d].Wait()
		conns.Wait()
	}
	p.judging.Wait()
	p.mirrors.end()
	for _, port := range p.programs() {
		port.program.Close()
	}
	return errors.Join(in, out)
}

// drain serves who waits at the listeners of one direction and closes them, then
// ends idle connections and returns when none is left or ctx ends.
func (p *Proxy) drain(ctx context.Context, d direction) error {
	p.finish(d)
	finished := make(chan struct{})
	go func() { p.accepts[d].Wait(); close(finished) }() // Shutdown waits for it
	select {
	case <-finished:
	case <-ctx.Done():
		p.closeListeners(d)
	}
	conns := p.conns[d]
	grace := drainIdle
	if d == inbound {
		grace = drainIdleInbound
	}
	left := conns.Drain(time.Now().Add(grace))
	select {
	case <-left:
		return nil
	default:
	}
	select {
	case <-left:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("proxy: %d %s connections were still busy: %w", conns.Len(), d, context.Cause(ctx))
	}
}

// finish has the listeners of one direction serve who waits there, and close.
func (p *Proxy) finish(d direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.finished[d] {
		return
	}
	p.finished[d] = true
	for _, s := range p.servers {
		if s.queue != nil && s.direction == d {
			s.queue.finish()
		}
	}
}
