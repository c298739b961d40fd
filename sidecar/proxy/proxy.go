package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/drain"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// Proxy is the sidecar's data plane. Its methods may be called concurrently.
type Proxy struct {
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	servers  []*server         // all of them
	captured []*server         // of these, where interception sends the program's connections
	steered  []*server         // of these, where it sends connections to the program's port
	program  *upstream.Service // nil without Inbound
	ready    chan struct{}     // closed once every listener is bound
	conns    *drain.Set
	drivers  map[mesh.Protocol]driver

	// ctx is over when connections must end at once; kill ends it.
	ctx  context.Context
	kill context.CancelFunc

	mu       sync.Mutex
	bound    bool
	shutdown bool
	accepts  sync.WaitGroup // accept loops
	judging  sync.WaitGroup // who judges open connections again
}

// New wires a proxy and opens nothing. Its error joins all that is wrong.
func New(cfg Config) (*Proxy, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &Proxy{cfg: cfg, log: cfg.Log, ready: make(chan struct{}), drivers: drivers(), conns: drain.NewSet()}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	p.metrics = newMetrics(cfg.Metrics)
	p.ctx, p.kill = context.WithCancel(context.Background())
	for _, e := range cfg.Explicit {
		p.servers = append(p.servers, p.listenExplicit(e))
	}
	if cfg.Captured != nil {
		p.captured = p.listenCaptured(*cfg.Captured)
		p.servers = append(p.servers, p.captured...)
	}
	if in := cfg.Inbound; in != nil {
		p.program = upstream.Static(upstream.Config{Log: p.log, IdleTimeout: programIdle, Dial: in.Dial}, in.Target)
		secure := p.listenInbound(*in)
		p.servers = append(p.servers, secure)
		if in.Steered != nil {
			p.steered = p.listenSteered(*in, secure)
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
	stop := context.AfterFunc(ctx, p.closeListeners)
	defer stop()
	p.accepts.Wait()
	return nil
}

// bind opens all listeners or none, then starts the accept loops.
func (p *Proxy) bind(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bound || p.shutdown {
		return errors.New("proxy: Run after Run or Shutdown")
	}
	var faults []error
	var plain net.ListenConfig
	plain.SetMultipathTCP(false) // no socket map takes those, see Captured
	for _, s := range p.servers {
		l, err := plain.Listen(ctx, "tcp", s.address)
		if err != nil {
			faults = append(faults, fmt.Errorf("listen for %s: %w", s.label, err))
			continue
		}
		s.listener = l
	}
	if err := errors.Join(faults...); err != nil {
		for _, s := range p.servers {
			if s.listener != nil {
				_ = s.listener.Close()
				s.listener = nil
			}
		}
		return err
	}
	p.bound = true
	for _, s := range p.servers {
		p.accepts.Go(s.accept)
		p.log.Info("listening", "addr", s.listener.Addr().String(), "service", s.label, "direction", s.direction)
	}
	if p.cfg.Identity != nil {
		p.judging.Go(func() { p.conns.Watch(p.ctx, p.cfg.Identity.Past) })
	}
	close(p.ready)
	return nil
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
		if s.listener != nil {
			listeners = append(listeners, s.listener)
		}
	}
	return listeners
}

func (p *Proxy) closeListeners() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.servers {
		if s.listener != nil {
			_ = s.listener.Close()
		}
	}
}

// Shutdown accepts nothing more, closes idle connections, and waits for exchanges
// and TCP connections to end. When ctx ends first the rest is aborted and Shutdown
// returns ctx's error. On return no goroutine of the proxy runs any more.
func (p *Proxy) Shutdown(ctx context.Context) error {
	p.mu.Lock()
	p.shutdown = true
	p.mu.Unlock()
	p.closeListeners()
	left := p.conns.Drain(time.Now().Add(drainIdle))
	var err error
	select {
	case <-left:
	case <-ctx.Done():
		err = fmt.Errorf("proxy: %d connections were still busy: %w", p.conns.Len(), context.Cause(ctx))
		p.kill()
		p.conns.Abort()
		<-left
	}
	p.kill()
	p.accepts.Wait()
	p.judging.Wait()
	p.conns.Wait()
	if p.program != nil {
		p.program.Close()
	}
	return err
}
