package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/gateway/discovery/checked"
	"github.com/isthmus-mesh/isthmus/gateway/discovery/file"
	"github.com/isthmus-mesh/isthmus/gateway/discovery/registry"
	"github.com/isthmus-mesh/isthmus/gateway/forward"
	"github.com/isthmus-mesh/isthmus/gateway/xds"
	"github.com/isthmus-mesh/isthmus/internal/admin"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

const (
	// joinTime is how long a gateway that starts waits for the first answer from
	// those it joins before it tells its sidecars what there is: until then it
	// would call everything in other clusters absent, and unknown is not absent.
	joinTime = 3 * time.Second

	// tunnelHeadTimeout bounds the head of a request on a tunnel stream.
	tunnelHeadTimeout = 10 * time.Second

	// tunnelIdleTimeout bounds the wait for another request on one: ours have one each.
	tunnelIdleTimeout = 10 * time.Second

	maxTunnelHead = 16 << 10 // bytes
)

// Options are what a gateway has beside its configuration file. The zero value
// is a process on a real network.
type Options struct {
	Log     *slog.Logger // nil: slog.Default
	Serving func() error // called when every listener is bound; nil: nobody

	// Identity replaces the one that the configuration names.
	Identity *identity.Source
	// ListenPacket, ListenExtra, Listen and Dial replace the network: the tunnel's
	// UDP socket, sockets for further connections to a peer (nil with
	// ListenPacket: the same socket), the mesh, xDS and admin ports, and
	// connections to endpoints.
	ListenPacket func(address string) (net.PacketConn, error)
	ListenExtra  func() (net.PacketConn, error)
	Listen       func(network, address string) (net.Listener, error)
	Dial         func(ctx context.Context, network, address string) (net.Conn, error)
	// Source adds services to those of resource files and sidecars.
	Source discovery.Source
}

// Gateway is one gateway process.
type Gateway struct {
	cfg      *config.Gateway
	opts     Options
	log      *slog.Logger
	identity *identity.Source
	registry *prometheus.Registry
	ready    admin.Readiness
	settled  func() // the services of this cluster and of those it joins are known
	started  time.Time

	// wired is set when what follows is: Shutdown may be called before.
	wired atomic.Bool

	mesh, xdsPort, adminPort net.Listener

	tunnel     *tunnel.Node
	federation *federation.Federation
	files      *file.Source // nil without a resources directory
	registered *registry.Server
	services   *discovery.Merged
	forward    *forward.Forward
	xds        *xds.Server
	router     atomic.Pointer[Router]
}

// New checks cfg and opens the identity. It listens nowhere yet.
func New(cfg *config.Gateway, opts Options) (*Gateway, error) {
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.ListenPacket == nil {
		opts.ListenPacket = func(address string) (net.PacketConn, error) { return tunnel.ListenUDP(address)() }
		host, _, err := net.SplitHostPort(cfg.Listen.Tunnel)
		if err != nil {
			return nil, fmt.Errorf("listen.tunnel: %w", err)
		}
		opts.ListenExtra = tunnel.ListenUDP(net.JoinHostPort(host, "0"))
	}
	if opts.Listen == nil {
		opts.Listen = net.Listen
	}
	g := &Gateway{cfg: cfg, opts: opts, log: opts.Log, identity: opts.Identity, registry: admin.NewRegistry()}
	g.settled = g.ready.Condition("services", "those of this cluster and of the gateways it joins are not all known yet").Met
	if g.identity == nil {
		id, err := identity.Open(cfg.Identity.Dir)
		if err != nil {
			return nil, err
		}
		g.identity = id
	}
	g.identity.Log = g.log
	if err := g.identity.Register(g.registry); err != nil {
		return nil, err
	}
	if id := g.identity.ID(); id.GatewayID() != cfg.ID() {
		return nil, fmt.Errorf("the certificate in %s is for %s, but the configuration says gateway %s: set cluster and name to match, or issue a certificate with 'isthmus pki gateway --cluster %s %s'",
			cfg.Identity.Dir, id, cfg.ID(), cfg.Cluster, cfg.Name)
	}
	return g, nil
}

// Run starts every part and returns when ctx ends or one of them fails.
// Shutdown first, for a gateway that others shall not miss.
func (g *Gateway) Run(ctx context.Context) (err error) {
	g.started = time.Now()
	resetKey := [32]byte{}
	if g.cfg.State != "" {
		release, err := config.ClaimState(g.cfg.State, config.GatewayRole)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, release()) }()
		resetKey = loadResetKey(filepath.Join(g.cfg.State, "reset.key"), g.log)
	}
	if err := g.bind(); err != nil {
		return err
	}
	if err := g.wire(resetKey); err != nil {
		return errors.Join(err, g.mesh.Close(), g.xdsPort.Close(), g.adminPort.Close())
	}
	g.wired.Store(true)

	group, ctx := errgroup.WithContext(ctx)
	part := func(name string, run func(context.Context) error) {
		group.Go(func() error {
			if err := run(ctx); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	part("admin", admin.New(admin.Config{
		Listener: g.adminPort, Readiness: &g.ready, Metrics: g.registry, Log: g.log,
		Status: func() any { return g.Status() },
	}).Run)
	part("identity", g.identity.Run)
	part("tunnel", g.tunnel.Run)
	part("tunnel streams", g.serveTunnels)
	part("federation", g.federation.Run)
	part("services", g.services.Run)
	part("xds", g.xds.Run)
	part("publish", g.publish)
	part("mesh port", g.forward.Run)
	g.log.Info("gateway runs", "gateway", g.cfg.ID(), "tunnel", g.cfg.Listen.Tunnel, "mesh", g.mesh.Addr(),
		"xds", g.xdsPort.Addr(), "admin", g.adminPort.Addr())
	if g.opts.Serving != nil {
		group.Go(g.opts.Serving)
	}
	return group.Wait()
}

// Shutdown leaves the mesh and drains: other gateways stop choosing this one,
// sidecars go to another, new paths are refused, and those that run may end
// until ctx does. Run must still be running; cancel its context afterwards. When
// Run has not come far enough to hold anything, there is nothing to wait for.
func (g *Gateway) Shutdown(ctx context.Context) error {
	if !g.wired.Load() {
		return nil
	}
	g.log.Info("gateway drains", "gateway", g.cfg.ID())
	left := g.federation.Shutdown(ctx)
	// All at once: while running paths end, other gateways must already know
	// that they get no new ones here.
	var parts [3]error
	var draining sync.WaitGroup
	draining.Go(func() { parts[0] = g.xds.Shutdown(ctx) })
	draining.Go(func() { parts[1] = g.forward.Shutdown(ctx) })
	draining.Go(func() { parts[2] = g.tunnel.Shutdown(ctx) })
	draining.Wait()
	return errors.Join(left, errors.Join(parts[:]...))
}

// bind opens every TCP port before anything runs, so that a clash fails at
// once; the tunnel binds its own socket first thing in Run.
func (g *Gateway) bind() (err error) {
	var bound []net.Listener
	for _, p := range []struct {
		name, address string
		to            *net.Listener
	}{
		{"listen.admin", g.cfg.Listen.Admin, &g.adminPort},
		{"listen.mesh", g.cfg.Listen.Mesh, &g.mesh},
		{"listen.xds", g.cfg.Listen.XDS, &g.xdsPort},
	} {
		l, err := g.opts.Listen("tcp", p.address)
		if err != nil {
			for _, b := range bound {
				_ = b.Close()
			}
			return fmt.Errorf("%s: %w", p.name, err)
		}
		*p.to = l
		bound = append(bound, l)
	}
	return nil
}

// wire makes every part and connects them. Nothing runs yet.
func (g *Gateway) wire(resetKey [32]byte) (err error) {
	statePath := func(name string) string {
		if g.cfg.State == "" {
			return ""
		}
		return filepath.Join(g.cfg.State, name)
	}
	g.router.Store(NewRouter(&federation.View{Self: g.cfg.ID()}, nil, false))

	g.tunnel, err = tunnel.New(tunnel.Config{
		Self: g.cfg.ID(), Identity: g.identity, ResetKey: resetKey, Connections: g.cfg.Connections,
		Listen:       func() (net.PacketConn, error) { return g.opts.ListenPacket(g.cfg.Listen.Tunnel) },
		ListenPacket: g.opts.ListenExtra,
		Log:          g.log, Metrics: g.registry,
	})
	if err != nil {
		return err
	}
	g.federation, err = federation.New(federation.Config{
		Self: g.cfg.ID(), Advertise: g.cfg.Advertise, MeshAddress: g.cfg.MeshAddress, Join: g.cfg.Join,
		Tunnel: g.tunnel, Identity: g.identity, StatePath: statePath("federation.db"), Log: g.log, Metrics: g.registry,
	})
	if err != nil {
		return err
	}

	g.registered = registry.New(registry.Config{Identity: g.identity, StatePath: statePath("registrations.json"), Log: g.log, Metrics: g.registry})
	sources := []discovery.Source{g.registered}
	if g.cfg.Resources != "" {
		g.files = file.New(g.cfg.Resources, g.log, g.registry)
		sources = append(sources, checked.New(g.files, g.log, g.registry))
	}
	if g.opts.Source != nil {
		sources = append(sources, g.opts.Source)
	}
	g.services = discovery.Merge(sources...)

	g.xds, err = xds.New(xds.Config{
		Identity: g.identity, Cluster: g.cfg.Cluster, Listener: g.xdsPort,
		Services:  []func(grpc.ServiceRegistrar){g.registered.Attach},
		StatePath: statePath("scopes.json"), Log: g.log, Metrics: g.registry,
	})
	if err != nil {
		return err
	}
	g.forward, err = forward.New(forward.Config{
		Self: g.cfg.ID(), Listener: g.mesh,
		Outbound: func(r *forward.Request) ([]forward.Candidate, *connect.Refusal) { return g.router.Load().Outbound(r) },
		Inbound:  func(r *forward.Request) ([]forward.Candidate, *connect.Refusal) { return g.router.Load().Inbound(r) },
		Open: func(ctx context.Context, to mesh.GatewayID) (relay.Conn, error) {
			s, err := g.tunnel.Open(ctx, to)
			if err != nil {
				return nil, err // not s: a nil *Stream is not a nil Conn
			}
			return s, nil
		},
		Dial:           g.opts.Dial,
		Identity:       g.identity,
		PathsPerSource: g.cfg.Limits.PathsPerSource, Paths: g.cfg.Limits.Paths,
		Log: g.log, Metrics: g.registry,
	})
	return err
}

// serveTunnels answers what other gateways ask on tunnel streams.
func (g *Gateway) serveTunnels(ctx context.Context) error {
	fed := g.federation.Handler()
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodConnect && r.Host != federation.GossipAuthority {
				g.forward.ServeTunnel(w, r)
				return
			}
			fed.ServeHTTP(w, r)
		}),
		ConnContext:       tunnel.ConnContext,
		ReadHeaderTimeout: tunnelHeadTimeout,
		IdleTimeout:       tunnelIdleTimeout,
		MaxHeaderBytes:    maxTunnelHead,
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	err := srv.Serve(g.tunnel.Listener())
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// publish tells the others what changes: the data plane gets a new router, the
// federation this cluster's exports, the sidecars their routes.
func (g *Gateway) publish(ctx context.Context) error {
	waited := time.NewTimer(joinTime)
	defer waited.Stop()
	joining := len(g.cfg.Join) > 0
	for {
		services, servicesPast := g.services.Snapshot()
		view, viewPast := g.federation.View()
		joining = joining && !slices.ContainsFunc(view.Origins, func(o federation.Origin) bool {
			return o.ID != view.Self && !o.Stale
		})
		settled := services != nil && !joining // nil: not known yet
		router := NewRouter(view, services, settled)
		g.router.Store(router)
		if services != nil {
			g.federation.Publish(exportsOf(services, g.identity.ID().String()))
		}
		if settled {
			g.xds.Publish(routesOf(view, services, router))
			g.settled()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-waited.C:
			joining = false
		case <-servicesPast:
		case <-viewPast:
		}
	}
}
