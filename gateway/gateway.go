package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/gateway/bundles"
	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/gateway/discovery/file"
	"github.com/isthmus-mesh/isthmus/gateway/discovery/registry"
	"github.com/isthmus-mesh/isthmus/gateway/discovery/resource"
	"github.com/isthmus-mesh/isthmus/gateway/entrance"
	"github.com/isthmus-mesh/isthmus/gateway/forward"
	"github.com/isthmus-mesh/isthmus/gateway/imports"
	"github.com/isthmus-mesh/isthmus/gateway/xds"
	"github.com/isthmus-mesh/isthmus/internal/admin"
	"github.com/isthmus-mesh/isthmus/internal/audit"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/enroll"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/traffic"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// Options are what a gateway has beside its configuration file. The zero value
// is a process on a real network.
type Options struct {
	Log     *slog.Logger // nil discards
	Serving func() error // called when every listener is bound; may be nil

	// Configuration reads the configuration again, for [Gateway.Reload]; nil: it
	// cannot be. Level is that of Log, which a reload changes; nil: it stays.
	Configuration func() (*config.Gateway, error)
	Level         *slog.LevelVar

	// Identity is who the gateway is; nil: what the files of identity.dir say.
	Identity *identity.Source
	// ListenPacket, ListenExtra, Listen and Dial replace the network: the tunnel's
	// UDP socket, sockets for further connections to a peer (nil with
	// ListenPacket: the same socket), the mesh, xDS and admin ports, and
	// connections to endpoints.
	ListenPacket func(address string) (net.PacketConn, error)
	ListenExtra  func() (net.PacketConn, error)
	Listen       func(network, address string) (net.Listener, error)
	Dial         func(ctx context.Context, network, address string) (net.Conn, error)
	// Lookup replaces the resolver of endpoints' host names.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Source adds services to those of resource files and sidecars.
	Source discovery.Source
}

// Gateway is one gateway process. Run is called once; Shutdown, Reload and Status
// may be called concurrently while it runs.
type Gateway struct {
	cfg      *config.Gateway                // with which it was started
	inForce  atomic.Pointer[config.Gateway] // cfg, with what reloads have changed
	reloader *admin.Reloader                // nil: there is nothing to read
	opts     Options
	log      *slog.Logger
	identity *identity.Source
	registry *prometheus.Registry
	audit    *audit.Log
	ready    admin.Readiness
	started  time.Time

	servicesKnown *admin.Condition // the services of this cluster are
	met           atomic.Bool      // a gateway that it joins was met, or there is none to join

	// wired is set when what follows is: Shutdown may be called before.
	wired atomic.Bool

	mesh, xdsPort net.Listener
	operators     admin.Ports

	kubernetes *kubernetes              // nil: there is no API server
	siblings   atomic.Pointer[[]string] // addresses of this cluster's other gateways, by the API server

	limits     *limit.Limits
	resetKey   *resetKey // nil without a state directory
	tunnel     *tunnel.Node
	federation *federation.Federation
	files      *file.Source
	resources  resource.Source // the files, and what the API server has of our kinds
	registered *registry.Server
	bundles    *bundles.Server
	services   *discovery.Merged
	forward    *forward.Forward
	xds        *xds.Server
	imports    *imports.Imports   // nil without an API server
	entrance   *entrance.Entrance // nil without ports for it
	router     atomic.Pointer[Router]
	bindings   atomic.Pointer[traffic.Bindings] // nil: not known yet
	// authorizers is who may call; nil: that is not known yet.
	authorizers atomic.Pointer[authorizers]
}

// New opens the identity and checks cfg. It listens nowhere and starts nothing.
// What it refuses in cfg, [Check] says.
func New(cfg *config.Gateway, opts Options) (*Gateway, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if err := checkAddresses(cfg); err != nil {
		return nil, err
	}
	id := opts.Identity
	if id == nil {
		var err error
		if id, err = enroll.Files(Process(cfg)); err != nil {
			return nil, err
		}
	} else if err := checkIdentity(cfg, id.ID()); err != nil {
		return nil, err
	}
	if err := enroll.TrustDomains(id, cfg.TrustDomains); err != nil {
		return nil, err
	}
	if opts.ListenPacket == nil {
		opts.ListenPacket = func(address string) (net.PacketConn, error) { return tunnel.ListenUDP(address)() }
		host, _, _ := net.SplitHostPort(cfg.Listen.Tunnel) // was checked
		opts.ListenExtra = tunnel.ListenUDP(net.JoinHostPort(host, "0"))
	}
	if opts.Listen == nil {
		opts.Listen = net.Listen
	}
	decisions, err := audit.Open(cfg.Audit.File, cfg.Audit.Calls == config.AuditAll, opts.Log)
	if err != nil {
		return nil, &config.KeyError{Key: "audit.file", Problem: err.Error()}
	}
	g := &Gateway{cfg: cfg, opts: opts, log: opts.Log, identity: id, registry: admin.NewRegistry(), audit: decisions}
	g.inForce.Store(cfg)
	if opts.Configuration != nil {
		g.reloader = admin.NewReloader(g.log, g.reload)
	}
	g.ready.Require("certificate", func() string {
		if err := id.Err(); err != nil {
			return err.Error()
		}
		return ""
	})
	if g.kubernetes, err = g.openKubernetes(); err != nil {
		return nil, err
	}
	g.servicesKnown = g.ready.Condition("services", "those of this cluster are not all known yet")
	g.identity.LogTo(g.log)
	return g, errors.Join(g.identity.Register(g.registry), g.audit.Register(g.registry))
}

// Run claims the state directory, binds every port, makes every part and starts
// them. It returns when ctx ends or one of them fails. A gateway that others shall
// not miss is shut down before ctx ends.
func (g *Gateway) Run(ctx context.Context) (err error) {
	g.started = time.Now()
	if g.cfg.State != "" {
		release, err := config.ClaimState(g.cfg.State, config.GatewayRole)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, release()) }()
		g.resetKey = loadResetKey(g.statePath(resetKeyFile), g.log)
	}
	if path := g.statePath(bundlesFile); path != "" {
		g.identity.Trust().KeepBundles(path)
	}
	if err := g.bind(); err != nil {
		return err
	}
	if err := g.wire(); err != nil {
		g.operators.Close()
		return errors.Join(err, g.mesh.Close(), g.xdsPort.Close())
	}
	g.wired.Store(true)

	group, ctx := errgroup.WithContext(ctx)
	for _, p := range g.parts() {
		group.Go(func() error {
			if err := p.run(ctx); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			return nil
		})
	}
	g.log.Info("gateway runs", "gateway", g.cfg.ID(), "tunnel", g.cfg.Listen.Tunnel, "mesh", g.mesh.Addr(),
		"xds", g.xdsPort.Addr(), "admin", g.operators.Admin.Addr())
	if g.opts.Serving != nil {
		group.Go(g.opts.Serving)
	}
	return group.Wait()
}

// part is something that runs as long as the gateway.
type part struct {
	name string
	run  func(context.Context) error
}

// parts are all of them, in the order in which they start.
func (g *Gateway) parts() []part {
	all := []part{
		{"admin", admin.New(admin.Config{
			Ports: g.operators, Readiness: &g.ready, Metrics: g.registry, Reload: g.reloader, Bundle: g.takeBundle, Forget: g.forget, Authz: g.wouldAllow, Audit: g.audit, Log: g.log,
			Status: func() any { return g.Status() },
		}).Run},
		{"audit", g.audit.Run},
		{"identity", g.identity.Run},
		{"trust", g.auditTrust},
		{"tunnel", g.tunnel.Run},
		{"tunnel streams", g.serveTunnels},
		{"federation", g.federation.Run},
		{"services", g.services.Run},
		{"xds", g.xds.Run},
		{"tell", g.tellAll},
		{"mesh port", g.forward.Run},
	}
	if g.resetKey != nil {
		all = append(all, part{"reset key", g.resetKey.Run})
	}
	return append(append(all, g.kubernetesParts()...), g.importsParts()...)
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
	if g.entrance != nil {
		g.entrance.Drain()
	}
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
