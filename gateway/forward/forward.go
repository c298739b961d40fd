package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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

	// Egress returns who may serve a request that came by the mesh port, best
	// first, and Ingress the same for one that came through a tunnel: only
	// endpoints of this cluster, only of exported services. Both must not block.
	Egress, Ingress func(*Request) ([]Candidate, *Refusal)

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

	// base is the parent of every path's context; abort ends it, with the cause
	// that paths report.
	base  context.Context
	abort context.CancelCauseFunc

	mu       sync.Mutex
	draining bool
	active   int           // paths, and connections whose head is being read
	idle     chan struct{} // not nil: someone waits; closed when active is 0
}

var errStopped = errors.New("gateway stopped")

// New returns a Forward that does nothing until Run and ServeTunnel are called.
func New(cfg Config) (*Forward, error) {
	switch {
	case cfg.Egress == nil || cfg.Ingress == nil:
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
		metrics: m,
		limits:  newLimits(cfg.PathsPerSource, cfg.Paths),
		dials:   newDials(),
		load:    newLoad(),
	}
	f.base, f.abort = context.WithCancelCause(context.Background())
	return f, nil
}

// Run serves the mesh port until ctx ends or Shutdown is done. When ctx ends
// the paths that still run, tunnels' included, are reset. It returns when all
// have ended.
func (f *Forward) Run(ctx context.Context) error { return nil }

// ServeTunnel serves a CONNECT that came on a tunnel stream, by
// [net/http.Server]. It returns when the path has ended.
func (f *Forward) ServeTunnel(w http.ResponseWriter, r *http.Request) {}

// Shutdown drains: from now on new paths are refused with 503, so that clients
// go to another gateway, while those that run go on until they end or ctx does;
// then they are reset. It returns when none is left, and Run returns after it.
func (f *Forward) Shutdown(ctx context.Context) error { return nil }
