package xds

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/liveness"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/internal/tlsport"
)

// Config is what a [Server] is made of. Identity, Cluster and Listener are
// required.
type Config struct {
	// Identity is this gateway's certificate and what it trusts.
	Identity *identity.Source
	// Cluster is the gateway's own: only its workloads are served.
	Cluster mesh.ClusterName
	// Listener is the xDS port (15012 by default), already bound. The server
	// closes it.
	Listener net.Listener
	// Services adds further gRPC services on the same port and under the same
	// TLS, such as gateway/discovery/registry.
	Services []func(grpc.ServiceRegistrar)
	// StatePath is the file that keeps what each identity asked for. Empty: in
	// memory only.
	StatePath string
	// Lookup resolves the host names of endpoints, for clients that do not do so
	// themselves. Nil: the system's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Limits are those of the process; nil: the server has its own.
	Limits *limit.Limits
	// Log receives one line per stream and refusal. Nil: none.
	Log *slog.Logger
	// Metrics is where isthmus_xds_… are registered. Nil: not registered.
	Metrics prometheus.Registerer
}

// Server serves ADS to the sidecars of one cluster. Its methods may be called
// from any goroutine.
type Server struct {
	cfg      Config
	log      *slog.Logger
	lines    *rate.Limiter // of log, of what clients refuse
	metrics  *metrics
	routes   state.Store[*routeSet] // what was published last; nil: nothing yet
	policies state.Store[*[]Policy] // likewise
	cache    *cache
	hosts    *hosts
	memory   *scopeMemory
	streams  *streams
	turns    turns
	port     *tlsport.Port
	grpc     *grpc.Server
	renewals identity.Renewals // of sidecars
}

// New returns a server that serves nothing until Run.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Identity == nil:
		return nil, errors.New("xds server: no identity")
	case cfg.Cluster == "":
		return nil, errors.New("xds server: no cluster")
	case cfg.Listener == nil:
		return nil, errors.New("xds server: no listener")
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Log, lines: rate.NewLimiter(rate.Every(time.Second), maxLines), metrics: m}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.memory = newScopeMemory(cfg.StatePath, time.Now, s.log)
	s.hosts = newHosts(cfg.Lookup, s.log)
	s.cache = newCache(s.memory.namesOf, s.hosts, s.metrics)
	s.streams, s.turns = newStreams(s.metrics.streams), newTurns()
	if cfg.Limits == nil {
		if cfg.Limits, err = limit.New(nil); err != nil {
			return nil, err
		}
	}
	policy := identity.WorkloadOrCAOf(cfg.Cluster) // a CA hears of bundles there, and of nothing else
	s.port = tlsport.New(tlsport.Config{
		Listener: cfg.Listener, TLS: cfg.Identity.ServerTLS(policy, "h2"),
		Trusts: func(cs tls.ConnectionState) error { return s.renewals.Trusts(cfg.Identity.Trust(), cs, policy) }, Past: cfg.Identity.Trust().Past,
		Seen: s.renewals.Seen, LastWords: lastWords,
		Watched: liveness.NewConn, Turns: cfg.Limits.Turns, Strangers: cfg.Limits.Port("xds", limit.Part(strangerPart, maxStrangers)),
		Max: limit.Part(connectionPart, maxConnections), Short: cfg.Limits.Shed,
		Refused: s.metrics.rejectedHandshakes, Log: s.log,
	})
	s.grpc = newGRPC()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s.grpc, &ads{server: s})
	for _, add := range cfg.Services {
		add(s.grpc)
	}
	return s, nil
}

// newGRPC returns the gRPC server of the xDS port, without services.
func newGRPC() *grpc.Server {
	return grpc.NewServer(
		grpc.Creds(tlsport.Credentials()),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: liveness.PingEvery, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: liveness.PingEvery, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(prefaceTimeout),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ReadBufferSize(connectionBuffer),
		grpc.WriteBufferSize(connectionBuffer),
		grpc.WaitForHandlers(true),
	)
}

// routeSet is what [Server.SetRoutes] was given.
type routeSet struct {
	routes   []*mesh.Route
	complete bool // what is not among them does not exist
}

// SetRoutes replaces the whole set of routes. It never blocks; several calls in
// quick succession are one change. Until the first call every ADS stream is
// refused with FAILED_PRECONDITION; while what was set is not complete, names
// that are not in it are not answered: what is not known yet must not be reported as
// absent. The routes must not be changed afterwards.
func (s *Server) SetRoutes(routes []*mesh.Route, complete bool) {
	s.routes.Set(&routeSet{routes, complete})
}

// StateErr returns why what sidecars asked for is not kept on disk; nil: it is.
func (s *Server) StateErr() error { return s.memory.saver.Err() }

// Serves reports whether ADS streams are served: the first routes are in force.
func (s *Server) Serves() bool { return s.cache.isReady() }

// Run serves until ctx ends or the listener fails, and returns when every stream
// has ended.
func (s *Server) Run(ctx context.Context) error {
	if err := s.memory.load(); err != nil {
		s.log.Warn("what sidecars asked for before is forgotten", "err", err)
	}
	ctx, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { s.deliver(ctx) })
	beside.Go(func() { s.memory.run(ctx) })
	beside.Go(func() { s.hosts.run(ctx) })
	beside.Go(s.port.Run)
	defer beside.Wait()
	defer s.grpc.Stop() // ends the connections that the port waits for
	defer stop()

	halt := context.AfterFunc(ctx, s.grpc.Stop)
	defer halt()
	if err := s.grpc.Serve(s.port); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve xds on %s: %w", s.cfg.Listener.Addr(), err)
	}
	return nil
}

// Shutdown ends every stream and stops listening: sidecars go to another
// gateway at once. ADS and registration streams have no natural end, so there is
// nothing to wait for; ctx bounds the closing of connections.
func (s *Server) Shutdown(ctx context.Context) error {
	s.streams.close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.Stop()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop xds server: %w", ctx.Err())
	}
}

// deliver hands what was set to the cache, until ctx ends.
func (s *Server) deliver(ctx context.Context) {
	var told *[]Policy
	for {
		all, policiesPast := s.policies.Snapshot()
		if all != told {
			told = all
			if err := s.cache.replacePolicies(*all); err != nil {
				s.log.Error("a policy is not told to sidecars", "err", err)
			}
		}
		p, past := s.routes.Snapshot()
		if p != nil {
			if err := s.cache.replace(p.routes, p.complete); err != nil {
				s.log.Error("a route is not told to sidecars", "err", err)
			}
			if !state.Pause(ctx, publishInterval) {
				return
			}
		}
		if !state.Await(ctx, past, policiesPast, s.hosts.changed.C()) {
			return
		}
	}
}
