package upstream

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// Config says how a [Set] or a [Static] service reaches its hosts. The zero
// value reaches plain endpoints.
type Config struct {
	// Identity is who we are to the hosts; nil: plain endpoints only.
	Identity *identity.Source
	// Cluster is our own cluster, which paths through gateways exclude.
	Cluster mesh.ClusterName
	Log     *slog.Logger // nil discards
	// Dial connects; nil: a net.Dialer. What it gives need not be a TCP
	// connection, but only sockets are checked before they are used again.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Connect bounds a TCP connect to a host of a destination (zero: of a [Static]
	// service); it gives 0 for 1 s, and less for no bound. Nil: 1 s.
	Connect func(mesh.Destination) time.Duration
	// Short is called when there is no descriptor for a connection, before that is
	// tried once more: whoever holds idle ones closes some, [Set.Shed] among them. Nil:
	// only the service's own. It must not block.
	Short func()
	// Unread bounds what shared connections hold unread; nil: nothing does.
	Unread *streams.Unread
	// IdleTimeout closes connections that nobody used for so long; 0: 60 s.
	IdleTimeout time.Duration
	// Warmup is the time over which traffic returns to local hosts that came
	// back; 0: 10 s, negative: at once.
	Warmup time.Duration
}

// shared is what all services of a set share. Its fields never change.
type shared struct {
	secured connSet
	muxed   connSet // shared ones
	clock
	cfg         Config
	log         *slog.Logger
	dial        func(ctx context.Context, network, addr string) (net.Conn, error)
	idleTimeout time.Duration
	warmup      time.Duration
	metrics     *metrics
	background  *background
	shortages   state.Tally
	renewals    identity.Renewals // of whom we have dialled
}

func newShared(cfg Config) *shared {
	s := &shared{
		clock:       newClock(),
		cfg:         cfg,
		log:         cfg.Log,
		dial:        cfg.Dial,
		idleTimeout: cfg.IdleTimeout,
		warmup:      cfg.Warmup,
		metrics:     newMetrics(),
		background:  newBackground(),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.dial == nil {
		s.dial = new(net.Dialer).DialContext
	}
	if s.idleTimeout <= 0 {
		s.idleTimeout = defaultIdleTimeout
	}
	switch {
	case s.warmup == 0:
		s.warmup = defaultWarmup
	case s.warmup < 0:
		s.warmup = 0
	}
	return s
}

// Set holds a [Service] for each route. Its methods may be called concurrently.
// Its goroutines are those that open paths ahead, and Close waits for them.
type Set struct {
	shared   *shared
	services atomic.Pointer[map[mesh.Destination]*Service]

	mu     sync.Mutex // serializes Update and Close
	closed bool
}

// New returns a set without services.
func New(cfg Config) *Set {
	s := &Set{shared: newShared(cfg)}
	s.services.Store(&map[mesh.Destination]*Service{})
	return s
}

// Service returns the service that serves d, or nil when there is no route to
// d. It allocates nothing and never blocks. A service that was returned may be
// used to the end of a request, whatever becomes of its route.
func (s *Set) Service(d mesh.Destination) *Service { return (*s.services.Load())[d] }

// Update makes routes the whole state. Hosts that stay keep their connections
// and history; of hosts that are gone, idle connections are closed and busy ones
// finish. The set keeps the routes: they must not change afterwards.
func (s *Set) Update(routes []*mesh.Route) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	old := *s.services.Load()
	next := make(map[mesh.Destination]*Service, len(routes))
	for _, r := range routes {
		service, ok := old[r.Destination]
		if !ok {
			if service, ok = next[r.Destination]; !ok {
				service = newService(s.shared, r.Destination, r.Destination.String())
			}
		}
		service.update(r)
		next[r.Destination] = service
	}
	s.services.Store(&next)
	for d, service := range old {
		if _, ok := next[d]; !ok {
			service.Close()
		}
	}
}

// Close closes all idle connections; busy ones finish and are then closed.
func (s *Set) Close() {
	s.Update(nil)
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.shared.background.stop()
	s.shared.closeShared()
}

// closeShared closes the shared connections that nobody uses, and waits for their goroutines;
// for those of the others their last user does.
func (s *shared) closeShared() {
	for _, c := range s.muxed.all() {
		if c.mux.Streams() == 0 {
			_ = c.mux.Close()
		}
	}
}
