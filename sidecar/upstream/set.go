package upstream

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Config says how a [Set] or a [Static] cluster reaches its hosts. The zero
// value reaches plain endpoints.
type Config struct {
	// Identity is who we are to the hosts; nil: plain endpoints only.
	Identity *identity.Source
	// Cluster is our own cluster, which paths through gateways exclude.
	Cluster mesh.ClusterName
	Log     *slog.Logger          // nil: silent
	Metrics prometheus.Registerer // nil: not registered
	// Dial connects; nil: a net.Dialer. What it gives need not be a TCP
	// connection, but only sockets are checked before they are used again.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// IdleTimeout closes connections that nobody used for so long; 0: 60 s.
	IdleTimeout time.Duration
	// Warmup is the time over which traffic returns to local hosts that came
	// back; 0: 10 s, negative: at once.
	Warmup time.Duration
}

// env is what all clusters of a set share. It never changes.
type env struct {
	clock
	cfg         Config
	log         *slog.Logger
	dial        func(ctx context.Context, network, addr string) (net.Conn, error)
	idleTimeout time.Duration
	warmup      time.Duration
	metrics     *metrics
}

func newEnv(cfg Config) *env {
	e := &env{
		clock:       newClock(),
		cfg:         cfg,
		log:         cfg.Log,
		dial:        cfg.Dial,
		idleTimeout: cfg.IdleTimeout,
		warmup:      cfg.Warmup,
		metrics:     newMetrics(cfg.Metrics),
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.dial == nil {
		e.dial = new(net.Dialer).DialContext
	}
	if e.idleTimeout <= 0 {
		e.idleTimeout = defaultIdleTimeout
	}
	switch {
	case e.warmup == 0:
		e.warmup = defaultWarmup
	case e.warmup < 0:
		e.warmup = 0
	}
	return e
}

// Set holds a [Cluster] for each route. Its methods may be called concurrently.
// It runs no goroutine of its own.
type Set struct {
	env      *env
	clusters atomic.Pointer[map[mesh.Destination]*Cluster]

	mu     sync.Mutex // serializes Update and Close
	closed bool
}

// New returns a set without clusters.
func New(cfg Config) *Set {
	s := &Set{env: newEnv(cfg)}
	s.clusters.Store(&map[mesh.Destination]*Cluster{})
	return s
}

// Cluster returns the cluster that serves d, or nil when there is no route to
// d. It allocates nothing and never blocks. A cluster that was returned may be
// used to the end of a request, whatever becomes of its route.
func (s *Set) Cluster(d mesh.Destination) *Cluster { return (*s.clusters.Load())[d] }

// Update makes routes the whole state. Hosts that stay keep their connections
// and history; of hosts that are gone, idle connections are closed and busy ones
// finish. The set keeps the routes: they must not change afterwards.
func (s *Set) Update(routes []*mesh.Route) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	old := *s.clusters.Load()
	next := make(map[mesh.Destination]*Cluster, len(routes))
	for _, r := range routes {
		c, ok := old[r.Destination]
		if !ok {
			if c, ok = next[r.Destination]; !ok {
				c = newCluster(s.env, r.Destination, r.Destination.String())
			}
		}
		c.update(r)
		next[r.Destination] = c
	}
	s.clusters.Store(&next)
	for d, c := range old {
		if _, ok := next[d]; !ok {
			c.Close()
		}
	}
}

// Close closes all idle connections; busy ones finish and are then closed.
func (s *Set) Close() {
	s.Update(nil)
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
}
