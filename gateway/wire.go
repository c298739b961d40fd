package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/gateway/beside"
	"github.com/isthmus-mesh/isthmus/gateway/bundles"
	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/gateway/discovery/checked"
	"github.com/isthmus-mesh/isthmus/gateway/discovery/file"
	"github.com/isthmus-mesh/isthmus/gateway/discovery/registry"
	"github.com/isthmus-mesh/isthmus/gateway/discovery/resource"
	"github.com/isthmus-mesh/isthmus/gateway/forward"
	"github.com/isthmus-mesh/isthmus/gateway/xds"
	"github.com/isthmus-mesh/isthmus/internal/admin"
	"github.com/isthmus-mesh/isthmus/internal/authorize"
	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/prom"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// bind opens every TCP port before anything runs, so that a clash fails at
// once; the tunnel binds its own socket first thing in Run.
func (g *Gateway) bind() (err error) {
	g.operators, err = admin.Bind(g.opts.Listen, g.cfg.Listen.Admin, g.cfg.Listen.Metrics, g.cfg.Listen.Profiles)
	if err != nil {
		return err
	}
	var bound []net.Listener
	for _, p := range []struct {
		name, address string
		to            *net.Listener
	}{
		{"listen.mesh", g.cfg.Listen.Mesh, &g.mesh},
		{"listen.xds", g.cfg.Listen.XDS, &g.xdsPort},
	} {
		l, err := g.opts.Listen("tcp", p.address)
		if err != nil {
			for _, b := range bound {
				_ = b.Close()
			}
			g.operators.Close()
			return fmt.Errorf("%s: %w", p.name, err)
		}
		*p.to = l
		bound = append(bound, l)
	}
	return nil
}

// wire makes every part and connects them. Nothing runs yet.
func (g *Gateway) wire() (err error) {
	g.router.Store(NewRouter(&federation.View{Self: g.cfg.ID()}, nil, Knowledge{Missing: justStarted}, nil))
	if g.limits, err = limit.New(g.registry); err != nil {
		return err
	}
	var resetKey [32]byte
	if g.resetKey != nil {
		resetKey = g.resetKey.key
	}
	g.tunnel, err = tunnel.New(tunnel.Config{
		Self: g.cfg.ID(), Identity: g.identity, ResetKey: resetKey, Connections: g.cfg.Connections,
		Listen:       func() (net.PacketConn, error) { return g.opts.ListenPacket(g.cfg.Listen.Tunnel) },
		ListenPacket: g.opts.ListenExtra,
		Log:          g.log, Audit: g.audit, Metrics: g.registry,
	})
	if err != nil {
		return err
	}
	g.bundles = bundles.New(g.identity.Trust(), g.log)
	g.federation, err = federation.New(federation.Config{
		Self: g.cfg.ID(), Advertise: g.cfg.Advertise, MeshAddress: g.cfg.MeshAddress, Join: g.cfg.Join, Imports: g.cfg.Imports,
		Tunnel: g.tunnel, Identity: g.identity, Sidecars: g.sidecarsBehind, StatePath: g.statePath(federationFile), Audit: g.audit, Log: g.log, Metrics: g.registry,
	})
	if err != nil {
		return err
	}
	if err := g.wireServices(); err != nil {
		return err
	}
	g.xds, err = xds.New(xds.Config{
		Identity: g.identity, Cluster: g.cfg.Cluster, Listener: g.xdsPort,
		Services:  g.sidecarServices(),
		StatePath: g.statePath(scopesFile), Lookup: g.opts.Lookup, Limits: g.limits, Log: g.log, Metrics: g.registry,
	})
	if err != nil {
		return err
	}
	calls, err := authorize.New(authorize.Config{Audit: g.audit, Log: g.log, Metrics: g.registry})
	if err != nil {
		return err
	}
	g.forward, err = forward.New(forward.Config{
		Self: g.cfg.ID(), Identity: g.identity, Listener: g.mesh,
		Outbound: func(r *forward.Request) ([]forward.Candidate, *connect.Refusal) { return g.router.Load().Outbound(r) },
		Inbound:  func(r *forward.Request) ([]forward.Candidate, *connect.Refusal) { return g.router.Load().Inbound(r) },
		Open:     g.openStream, Dial: g.dial(),
		Authorizer: func(s mesh.ServiceName) *policy.Authorizer { return g.authorizers.Load().of(s) }, Calls: calls,
		Entrance:       g.cfg.Entrance.Ports.First != 0,
		PathsPerSource: g.cfg.Limits.PathsPerSource, Paths: g.cfg.Limits.Paths, Limits: g.limits,
		Log: g.log, Metrics: g.registry,
	})
	if err != nil {
		return err
	}
	if err := g.wireImports(); err != nil {
		return err
	}
	g.requireParts()
	return errors.Join(admin.RegisterKept(g.registry, g.kept()), prom.Register(g.registry, serviceMetrics{g}))
}

// sidecarServices are what sidecars ask for beside their routes.
func (g *Gateway) sidecarServices() []func(grpc.ServiceRegistrar) {
	all := []func(grpc.ServiceRegistrar){g.registered.Attach, g.bundles.Attach}
	if g.kubernetes != nil {
		all = append(all, beside.New(g.kubernetes.services.Pods, g.log).Attach)
	}
	return all
}

// wireServices makes the sources of this cluster's services.
func (g *Gateway) wireServices() (err error) {
	if g.files, err = file.New(g.cfg.Resources, g.log, g.registry); err != nil {
		return err
	}
	g.resources = g.files
	if g.kubernetes != nil {
		g.resources = resource.Join(g.files, g.kubernetes.resources)
	}
	g.registered, err = registry.New(registry.Config{
		Identity: g.identity, Ranges: g.cfg.EndpointRanges, Resources: g.resources.Snapshot, Audit: g.audit, StatePath: g.statePath(registrationsFile), Log: g.log, Metrics: g.registry,
	})
	if err != nil {
		return err
	}
	proven, err := checked.New(g.resources, g.log, g.registry)
	if err != nil {
		return err
	}
	sources := []discovery.Source{proven} // the operator's word first
	if g.kubernetes != nil {
		sources = append(sources, g.kubernetes.services)
	}
	sources = append(sources, g.registered)
	if g.opts.Source != nil {
		sources = append(sources, g.opts.Source)
	}
	g.services = discovery.Merge(sources...)
	return nil
}

// The files of the state directory in which parts keep what they learn.
const (
	federationFile    = "federation.db"
	registrationsFile = "registrations.json"
	scopesFile        = "scopes.json"
	kubernetesFile    = "kubernetes.json"
	bundlesFile       = "gateway-bundles.json"
)

// statePath returns where a part keeps what it learned; empty: nowhere.
func (g *Gateway) statePath(name string) string {
	if g.cfg.State == "" {
		return ""
	}
	return filepath.Join(g.cfg.State, name)
}

// openStream opens a stream for a path to a gateway of another cluster.
func (g *Gateway) openStream(ctx context.Context, to mesh.GatewayID) (relay.Conn, error) {
	s, err := g.tunnel.Open(ctx, to)
	if err != nil {
		return nil, err // not s: a nil *Stream is not a nil Conn
	}
	s.CarriesPath()
	return s, nil
}
