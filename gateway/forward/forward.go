package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// Config is what a Forward needs. The functions are called on the goroutine of
// each path, so they must be safe for concurrent use.
type Config struct {
	// Self is this gateway.
	Self mesh.GatewayID
	// Listener is the mesh port, bound by the caller; Run closes it. Nil: only
	// tunnels are served.
	Listener net.Listener

	// Outbound returns who may serve a request that came by the mesh port, best
	// first, and Inbound the same for one that came through a tunnel: only
	// endpoints of this cluster, only of exported services. Both must not block.
	Outbound, Inbound func(*Request) ([]Candidate, *connect.Refusal)

	// Open opens a stream to a gateway of another cluster.
	Open func(ctx context.Context, to mesh.GatewayID) (relay.Conn, error)
	// Dial opens a connection to an endpoint; nil: a net.Dialer. What it
	// returns must be a [relay.Conn].
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// ServerTLS returns the configuration that ends the TLS of plain endpoints:
	// this gateway's certificate, any workload of the mesh as the client.
	ServerTLS func(alpn ...string) *tls.Config

	// PathsPerSource bounds the paths of one source address on the mesh port
	// and Paths those of all, tunnels included. 0: 1024 and 32768.
	PathsPerSource, Paths int
	// Idle ends a path on which nothing moves. 0: 1 h.
	Idle time.Duration

	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: not registered
}

// Forward opens paths and carries them. Its methods are safe for concurrent use.
type Forward struct {
	cfg     Config
	metrics *metrics
	limits  *limits
	dials   *dials
	load    *load
	// refusing holds a token for each connection beyond the bounds that is
	// being told so.
	refusing chan struct{}

	// base is the parent of every path's context; abort ends it, with the cause
	// that paths report.
	base  context.Context
	abort context.CancelCauseFunc
	// late ends when a drain is near its deadline: paths end when they are quiet.
	late   context.Context
	hasten context.CancelFunc

	// wg counts all goroutines that Run and Shutdown wait for.
	wg sync.WaitGroup

	mu       sync.Mutex
	stopped  bool // nothing is started any more, so that wg only falls
	draining bool
	paths    int           // that were not refused and have not ended
	empty    chan struct{} // closed when draining and paths is 0
}

var errStopped = errors.New("gateway stopped")

// New returns a Forward that does nothing until Run and ServeTunnel are called.
func New(cfg Config) (*Forward, error) {
	switch {
	case cfg.Outbound == nil || cfg.Inbound == nil:
		return nil, errors.New("forward: no routing functions")
	case cfg.Open == nil:
		return nil, errors.New("forward: no way to open streams")
	case cfg.ServerTLS == nil:
		return nil, errors.New("forward: no TLS configuration for plain endpoints")
	}
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	if cfg.PathsPerSource <= 0 {
		cfg.PathsPerSource = defaultPathsPerSource
	}
	if cfg.Paths <= 0 {
		cfg.Paths = defaultPaths
	}
	if cfg.Idle <= 0 {
		cfg.Idle = defaultIdle
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	f := &Forward{
		cfg:     cfg,
		empty:   make(chan struct{}),
		metrics: m,
		limits:  newLimits(cfg.PathsPerSource, cfg.Paths),
		dials:   newDials(),
		load:    newLoad(),

		refusing: make(chan struct{}, maxRefusing),
	}
	f.base, f.abort = context.WithCancelCause(context.Background())
	f.late, f.hasten = context.WithCancel(context.Background())
	return f, nil
}

// Run serves the mesh port until ctx ends or Shutdown is done. When ctx ends
// the paths that still run, tunnels' included, are reset. It returns when all
// have ended, with an error only if the mesh port failed.
func (f *Forward) Run(ctx context.Context) error {
	unhook := context.AfterFunc(ctx, f.stop)
	defer unhook()
	var err error
	if f.cfg.Listener != nil {
		err = f.accept(f.cfg.Listener) //nolint:contextcheck // paths live by f.base: Shutdown ends it as well
	} else {
		<-f.base.Done()
	}
	f.stop()
	f.wg.Wait()
	return err
}

// accept serves connections to the mesh port until the Forward is stopped.
func (f *Forward) accept(l net.Listener) error {
	unhook := context.AfterFunc(f.base, func() { _ = l.Close() })
	defer unhook()
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
		case f.base.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on the mesh port: %w", err)
		default:
			// Out of file descriptors or memory, or a client that left before it
			// was accepted: what runs goes on, further accepts wait.
			f.metrics.acceptErrors.Inc()
			f.cfg.Log.Warn("accept on the mesh port", "err", err)
			select {
			case <-time.After(acceptPause):
			case <-f.base.Done():
			}
			continue
		}
		conn, ok := c.(relay.Conn)
		if !ok || !f.enter() {
			relay.Abort(c)
			continue
		}
		go func() {
			defer f.wg.Done()
			f.serveMesh(conn)
		}()
	}
}

// enter counts a goroutine in wg, unless the Forward is stopped.
func (f *Forward) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.stopped {
		f.wg.Add(1)
	}
	return !f.stopped
}

// stop resets everything and lets nothing begin.
func (f *Forward) stop() {
	f.mu.Lock()
	f.stopped = true
	f.mu.Unlock()
	f.abort(errStopped)
	f.hasten() // releases late; there is nothing left to hasten
}

// begin counts a path, unless the Forward drains; end must follow.
func (f *Forward) begin() *connect.Refusal {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.draining {
		return connect.Refuse(http.StatusServiceUnavailable, connect.DestinationUnavailable, "gateway %s is draining: use another", f.cfg.Self)
	}
	f.paths++
	return nil
}

func (f *Forward) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paths--
	f.emptyLocked()
}

func (f *Forward) emptyLocked() {
	if !f.draining || f.paths > 0 {
		return
	}
	select {
	case <-f.empty:
	default:
		close(f.empty)
	}
}

// Shutdown drains: from now on new paths are refused with 503, so that clients
// go to another gateway, while those that run go on until they end or ctx does;
// then they are reset and ctx's error is returned. In the last fifth of the time
// until ctx's deadline a path is closed when it is quiet after an answer, which
// is kinder to a pooled connection than to be reset within a request. It
// returns when no path is left; Run returns after it.
func (f *Forward) Shutdown(ctx context.Context) error {
	f.mu.Lock()
	f.draining = true
	f.emptyLocked()
	f.mu.Unlock()
	if deadline, ok := ctx.Deadline(); ok {
		hasten := time.AfterFunc(time.Until(deadline)*4/5, f.hasten)
		defer hasten.Stop()
	}
	var err error
	select {
	case <-f.empty:
	case <-f.base.Done():
	case <-ctx.Done():
		f.mu.Lock()
		err = fmt.Errorf("%d paths reset: %w", f.paths, ctx.Err())
		f.mu.Unlock()
	}
	f.stop()
	f.wg.Wait()
	return err
}
