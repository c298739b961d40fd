package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/authorize"
	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/drain"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
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
	// Identity is this gateway's certificate, under which the TLS of plain
	// endpoints ends, and what it trusts.
	Identity *identity.Source
	// Authorizer returns who may call a service of this cluster; nil: that is not known,
	// and nobody may. It is asked where the TLS of a plain endpoint ends.
	Authorizer func(mesh.ServiceName) *policy.Authorizer
	// Entrance: this cluster has an entrance, so that gateways may call plain endpoints
	// without a policy for who has no sidecar, see [policy.Authorizer.Plain].
	Entrance bool
	// Calls is told what was decided; nil: nobody is.
	Calls *authorize.Observer

	// PathsPerSource bounds the paths of one source on the mesh port and Paths those of
	// all, tunnels included; see paths for how these are divided. 0: 1024 and 16384.
	PathsPerSource, Paths int
	// Limits are those of the process; nil: the Forward has its own.
	Limits *limit.Limits
	// Idle ends a path on which nothing moves. 0: 1 h.
	Idle time.Duration

	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: not registered
}

// Forward opens paths and carries them. Its methods are safe for concurrent use.
type Forward struct {
	cfg     Config
	metrics *metrics
	limits  *paths
	// strangers are the connections to the mesh port that have not asked for a path.
	strangers *limit.Strangers
	// young are the paths of the mesh port whose callers may have proved nothing yet to
	// who ends their TLS.
	young *limit.Strangers
	dials *dials
	load  *load
	// open has the paths that were not refused and have not ended.
	open *drain.Set
	// rejecting holds a token for each connection beyond the bounds that is
	// being told so.
	rejecting chan struct{}

	// base is the parent of every path's context; abort ends it, with the cause
	// that paths report.
	base  context.Context
	abort context.CancelCauseFunc
	// draining ends when a drain begins, by drain: goodbyes are said.
	draining context.Context
	drain    context.CancelFunc
	// toEndpoints has the paths that end here.
	toEndpoints toEndpoints
	// drainDeadline ends when a drain is near its deadline, by closeIdle: paths
	// end when they are quiet.
	drainDeadline context.Context
	closeIdle     context.CancelFunc

	renewals identity.Renewals // of callers of plain endpoints

	// running counts the goroutines that Run waits for, those of open.Accept
	// aside: of tunnel streams and of attempts.
	running sync.WaitGroup

	mu      sync.Mutex
	stopped bool // running only falls
}

var errStopped = errors.New("gateway stopped")

// New returns a Forward that does nothing until Run and ServeTunnel are called.
func New(cfg Config) (*Forward, error) {
	switch {
	case cfg.Outbound == nil || cfg.Inbound == nil:
		return nil, errors.New("forward: no routing functions")
	case cfg.Open == nil:
		return nil, errors.New("forward: no way to open streams")
	case cfg.Identity == nil || cfg.Authorizer == nil:
		return nil, errors.New("forward: no identity for plain endpoints, or nobody who says who may call them")
	}
	cfg.setDefaults()
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	if cfg.Limits == nil {
		if cfg.Limits, err = limit.New(nil); err != nil {
			return nil, err
		}
	}
	f := &Forward{
		cfg:       cfg,
		metrics:   m,
		limits:    newPaths(cfg.PathsPerSource, cfg.Paths),
		strangers: cfg.Limits.Port("mesh", limit.Part(strangerPart, maxStrangers)),
		young:     cfg.Limits.Doubted("mesh paths"),
		dials:     newDials(),
		load:      newLoad(),
		open:      drain.NewSet(),
		rejecting: make(chan struct{}, maxRejecting),

		toEndpoints: toEndpoints{open: make(map[*path]*toEndpoint)},
	}
	f.base, f.abort = context.WithCancelCause(context.Background())
	f.draining, f.drain = context.WithCancel(context.Background())
	f.drainDeadline, f.closeIdle = context.WithCancel(context.Background())
	return f, nil
}

func (c *Config) setDefaults() {
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.PathsPerSource <= 0 {
		c.PathsPerSource = defaultPathsPerSource
	}
	if c.Paths <= 0 {
		c.Paths = defaultPaths
	}
	if c.Idle <= 0 {
		c.Idle = defaultIdle
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// SetLimits replaces the bounds of the configuration: of new paths, those that are
// open go on. Each 0 stands for its default.
func (f *Forward) SetLimits(pathsPerSource, paths int) {
	c := Config{PathsPerSource: pathsPerSource, Paths: paths}
	c.setDefaults()
	f.limits.set(c.PathsPerSource, c.Paths)
}

// Run serves the mesh port until ctx ends or Shutdown is done. When ctx ends
// the paths that still run, tunnels' included, are reset. It returns when all
// have ended, with an error only if the mesh port failed.
func (f *Forward) Run(ctx context.Context) (err error) {
	unhook := context.AfterFunc(ctx, f.stop)
	defer unhook()
	f.running.Go(func() { f.open.Watch(f.base, f.cfg.Identity.Trust().Past) }) //nolint:contextcheck // paths live by f.base: Shutdown ends it as well
	if f.cfg.Listener != nil {
		f.open.Accept(f.base, f.cfg.Listener, drain.AcceptConfig{
			Strangers: f.strangers, Short: f.cfg.Limits.Shed, Failed: f.metrics.acceptErrors.Inc, Log: f.cfg.Log,
		}, f.serveMesh) //nolint:contextcheck // as above
		if f.base.Err() == nil {
			err = errors.New("the mesh port was closed")
		}
	} else {
		<-f.base.Done()
	}
	f.stop()
	f.open.Wait()
	f.running.Wait()
	return err
}

// enter counts a goroutine in running, unless the Forward is stopped.
func (f *Forward) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.stopped {
		f.running.Add(1)
	}
	return !f.stopped
}

// stop resets everything and lets nothing begin.
func (f *Forward) stop() {
	f.mu.Lock()
	f.stopped = true
	f.mu.Unlock()
	f.abort(errStopped)
	if f.cfg.Listener != nil {
		_ = f.cfg.Listener.Close() // a second time, perhaps
	}
	f.drain()
	f.closeIdle() // releases drainDeadline: nothing is left to close
}

// Shutdown drains: from now on new paths are refused with 503, so that clients
// go to another gateway, and goodbye is said on those that run. They go on until
// they end, which is soon where the client understands a goodbye, or ctx does;
// then they are reset and ctx's error is returned. In the last fifth of the time
// until ctx's deadline a path is closed when it is quiet after an answer, which
// is kinder to a pooled connection than to be reset within a request. It
// returns when no path is left; Run returns after it.
func (f *Forward) Shutdown(ctx context.Context) error {
	empty := f.open.Drain(time.Now())
	f.drain()
	if deadline, ok := ctx.Deadline(); ok {
		near := time.AfterFunc(time.Until(deadline)*4/5, f.closeIdle)
		defer near.Stop()
	}
	var err error
	select {
	case <-empty:
	case <-f.base.Done():
	case <-ctx.Done():
		err = fmt.Errorf("%d paths reset: %w", f.open.Len(), ctx.Err())
	}
	f.stop()
	<-empty
	return err
}
