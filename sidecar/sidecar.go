package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/internal/admin"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/health"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/status"
	"github.com/isthmus-mesh/isthmus/internal/version"
	"github.com/isthmus-mesh/isthmus/sidecar/adsclient"
	"github.com/isthmus-mesh/isthmus/sidecar/gatewaylink"
	"github.com/isthmus-mesh/isthmus/sidecar/proxy"
	"github.com/isthmus-mesh/isthmus/sidecar/registration"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// Options are what a sidecar has beside its configuration file.
type Options struct {
	Log     *slog.Logger // nil: slog.Default
	Program []string     // started beside the sidecar, which ends with it; empty: none
	Serving func() error // called when every listener is bound and the program captured; nil: nobody
}

// Sidecar is one sidecar process.
type Sidecar struct {
	cfg      *config.Sidecar
	opts     Options
	log      *slog.Logger
	identity *identity.Source
	registry *prometheus.Registry
	ready    admin.Readiness
	synced   func() // the routes are there
	answers  func() // the program answers
	started  time.Time

	adminPort net.Listener
	routes    *routes.Store
	upstreams *upstream.Set
	proxy     *proxy.Proxy
	gateways  []*gatewaylink.Link
	ads       *adsclient.Client
	registrar *registration.Registrar
	mode      config.InterceptionMode // never auto
	capture   *capture                // nil unless the mode captures; set by Run
	healthy   atomic.Bool             // the program answers
}

// New checks cfg and opens the identity. It listens nowhere yet.
func New(cfg *config.Sidecar, opts Options) (*Sidecar, error) {
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	s := &Sidecar{cfg: cfg, opts: opts, log: opts.Log, registry: admin.NewRegistry()}
	s.synced = s.ready.Condition("routes", "no gateway has told them yet").Met
	if cfg.Service != nil {
		s.answers = s.ready.Condition("program", "nothing at "+cfg.Service.Target+" answers yet").Met
	}
	id, err := identity.Open(cfg.Identity.Dir)
	if err != nil {
		return nil, err
	}
	id.Log = s.log
	s.identity = id
	if err := id.Register(s.registry); err != nil {
		return nil, err
	}
	who := id.ID()
	if who.IsGateway() {
		return nil, fmt.Errorf("the certificate in %s is a gateway's (%s): issue one for this workload with 'isthmus pki workload'", cfg.Identity.Dir, who)
	}
	if cfg.Interception.Acceleration == config.AccelerationOn && len(opts.Program) == 0 {
		return nil, errors.New("interception.acceleration on is for a program that the sidecar starts: write it behind \"--\", or acceleration off")
	}
	if svc := cfg.Service; svc != nil && svc.Name.Namespace != who.Namespace {
		return nil, fmt.Errorf("service %s is not in the namespace of the certificate in %s (%s): no gateway would accept it",
			svc.Name, cfg.Identity.Dir, who)
	}
	return s, s.wire()
}

// wire makes every part and connects them. Nothing runs yet.
func (s *Sidecar) wire() (err error) {
	cluster := s.identity.ID().Cluster
	s.upstreams = upstream.New(upstream.Config{Identity: s.identity, Cluster: cluster, Log: s.log, Metrics: s.registry})
	s.routes = routes.NewStore(s.upstreams.Update, func(d mesh.Destination) { s.ads.Subscribe(d) })

	s.mode = interceptionMode(&s.cfg.Interception, s.log)
	var explicit []proxy.Explicit
	var subscribe []mesh.Destination
	for i := range s.cfg.Upstreams {
		u := &s.cfg.Upstreams[i]
		explicit = append(explicit, proxy.Explicit{Listen: u.Listen, Destination: u.Destination()})
		subscribe = append(subscribe, u.Destination())
	}
	if s.gateways, err = gatewaylink.New(s.identity, s.cfg.Gateways); err != nil {
		return err
	}
	if err := gatewaylink.Register(s.gateways, s.registry); err != nil {
		return err
	}
	s.registrar = registration.New(s.gateways, s.log)
	s.ads, err = adsclient.New(adsclient.Config{
		Links: s.gateways, ID: s.identity.ID().String(), Subscribe: subscribe, Apply: func(st adsclient.State) { s.routes.Replace(st.Routes, st.Absent) },
		StatePath: filepath.Join(s.cfg.State, "routes.pb"), Log: s.log, Metrics: s.registry,
	})
	if err != nil {
		return err
	}

	var inbound *proxy.Inbound
	if svc := s.cfg.Service; svc != nil {
		inbound = &proxy.Inbound{
			Listen: s.cfg.Listen.Inbound, Service: svc.Name, Port: svc.Port, Target: svc.Target, Protocol: svc.Protocol,
			Dial: s.dialProgram, Steered: s.steered(),
		}
	}
	var captured *proxy.Captured
	if s.mode != config.Explicit {
		captured = &proxy.Captured{
			Original: func(c net.Conn) (netip.AddrPort, bool) { return s.capture.intercept.OriginalDestination(c) },
			Names:    func(a netip.Addr) (mesh.Destination, bool) { return s.capture.addresses.Name(a) },
		}
		if s.accelerates() {
			captured.Accelerate = s.accelerate
		}
		for _, a := range loopbacks(s.cfg.Interception.OutboundPort) {
			captured.Listen = append(captured.Listen, a.String())
		}
	}
	s.proxy, err = proxy.New(proxy.Config{
		Identity: s.identity, Routes: s.routes, Upstreams: s.upstreams, Explicit: explicit, Captured: captured, Inbound: inbound,
		Log: s.log, Metrics: s.registry,
	})
	return err
}

// Run binds every listener, starts every part and the program, and returns
// when ctx ends, a part fails, or the program ends (a [*ProgramError]).
func (s *Sidecar) Run(ctx context.Context) (err error) {
	s.started = time.Now()
	defer func() {
		if errors.Is(err, unix.EADDRINUSE) {
			err = fmt.Errorf("%w: end what holds it, or write another address ('isthmus check -c FILE' says of which key)", err)
		}
	}()
	release, err := config.ClaimState(s.cfg.State, config.SidecarRole)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	if s.mode != config.Explicit {
		if s.capture, err = s.newCapture(); err != nil {
			return fmt.Errorf("interception: %w", err)
		}
		defer func() { err = errors.Join(err, s.capture.close()) }()
		if err := s.registry.Register(s.capture.intercept); err != nil {
			return fmt.Errorf("interception: %w", err)
		}
		if err := s.tryAcceleration(); err != nil {
			return fmt.Errorf("interception: %w", err)
		}
	}
	s.adminPort, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Listen.Admin)
	if err != nil {
		return fmt.Errorf("listen.admin: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	part := func(name string, run func(context.Context) error) {
		group.Go(func() error {
			if err := run(ctx); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	part("proxy", s.proxy.Run)
	select {
	case <-s.proxy.Ready(): // every listener is bound; the rest may start
	case <-ctx.Done():
		return errors.Join(group.Wait(), s.adminPort.Close())
	}
	if s.capture != nil {
		part("interception", func(ctx context.Context) error { return s.capture.run(ctx, s.proxy) })
		select {
		case <-s.capture.serving:
		case <-ctx.Done():
			return errors.Join(group.Wait(), s.adminPort.Close())
		}
	}
	part("admin", admin.New(admin.Config{
		Listener: s.adminPort, Readiness: &s.ready, Metrics: s.registry, Log: s.log,
		Status: func() any { return s.Status() },
	}).Run)
	part("identity", s.identity.Run)
	part("ads", s.ads.Run)
	part("registration", s.registrar.Run)
	group.Go(func() error {
		select {
		case <-s.ads.Synced():
			s.synced()
		case <-ctx.Done():
		}
		return nil
	})
	if s.cfg.Service != nil {
		part("health check", s.watchProgram)
	}
	if len(s.opts.Program) > 0 {
		part("program", s.runProgram)
	}
	s.log.Info("sidecar runs", "identity", s.identity.ID(), "admin", s.adminPort.Addr())
	if s.opts.Serving != nil {
		group.Go(s.opts.Serving)
	}
	err = group.Wait()
	aborted, abort := context.WithCancel(context.WithoutCancel(ctx))
	abort() // what Shutdown has not let end by now does not get more time
	_ = s.proxy.Shutdown(aborted)
	s.upstreams.Close()
	return err
}

// runProgram runs the program beside, in its own cgroup when it is captured.
func (s *Sidecar) runProgram(ctx context.Context) error {
	start := programStart{argv: s.opts.Program, unspliced: s.accelerates()}
	if s.capture != nil {
		start.cgroup = s.capture.cgroup
	}
	return runProgram(ctx, start, s.cfg.Drain)
}

// Shutdown withdraws the service from the mesh and drains: running exchanges
// may end until ctx does. Run must still be running; cancel its context
// afterwards, which also ends the program.
func (s *Sidecar) Shutdown(ctx context.Context) error {
	s.log.Info("sidecar drains")
	return errors.Join(s.registrar.Shutdown(ctx), s.proxy.Shutdown(ctx))
}

// watchProgram keeps the gateways told whether the program beside answers.
func (s *Sidecar) watchProgram(ctx context.Context) error {
	svc := s.cfg.Service
	s.register(false)
	health.Watch(ctx, svc.Health,
		func(ctx context.Context) error { return svc.Health.ProbeBy(ctx, s.dialProgram, svc.Target) },
		func(ready bool, err error) {
			if ready {
				s.log.Info("the program answers", "service", svc.Name, "target", svc.Target)
				s.answers()
			} else {
				s.log.Warn("the program does not answer", "service", svc.Name, "target", svc.Target, "err", err)
			}
			s.healthy.Store(ready)
			s.register(ready)
		})
	return nil
}

func (s *Sidecar) register(ready bool) {
	svc := s.cfg.Service
	s.registrar.Register(&registration.Registration{
		Service: svc.Name, Port: svc.Port, Protocol: svc.Protocol, Instance: svc.Instance,
		Address: svc.Advertise, Ready: ready, Weight: svc.Weight, Export: svc.Export,
	})
}

// Status says what the sidecar knows now.
func (s *Sidecar) Status() *status.Sidecar {
	st := &status.Sidecar{
		Identity: s.identity.ID().String(), Version: version.String(), Pending: s.ready.Unmet(), Uptime: time.Since(s.started).Seconds(),
		Certificate: status.Certificate{NotBefore: s.identity.NotBefore(), NotAfter: s.identity.NotAfter()},
		Gateways:    []status.GatewayLink{}, Upstreams: []status.Upstream{},
	}
	st.Ready = len(st.Pending) == 0
	for _, l := range s.gateways {
		g := l.Status()
		st.Gateways = append(st.Gateways, status.GatewayLink{Address: g.Gateway, XDS: g.ADS, Registered: g.Registered, LastError: g.LastError})
	}
	table := s.routes.Load()
	for i := range s.cfg.Upstreams {
		u := &s.cfg.Upstreams[i]
		up := status.Upstream{Listen: u.Listen, Destination: u.Destination(), State: "pending"}
		if service := s.upstreams.Service(up.Destination); service != nil {
			in := service.Status()
			up.State, up.LocalShare, up.Avoided = "known", in.LocalShare, in.Avoided
			up.Local, up.Gateways = hosts(in.Hosts)
		} else if table.Absent(up.Destination) {
			up.State = "absent"
		}
		st.Upstreams = append(st.Upstreams, up)
	}
	st.Interception = s.interceptionStatus()
	if svc := s.cfg.Service; svc != nil {
		st.Service = &status.Registration{Service: svc.Name, Port: svc.Port, Target: svc.Target, Ready: s.healthy.Load()}
	}
	return st
}

func hosts(all []upstream.HostStatus) (local, gateways []status.Host) {
	local, gateways = []status.Host{}, []status.Host{}
	for _, h := range all {
		to := &local
		if h.Gateway {
			to = &gateways
		}
		*to = append(*to, status.Host{
			Instance: h.Instance, Address: h.Address, Ready: h.Ready, Weight: h.Weight, Active: h.Active, Idle: h.Idle,
			LatencyMS: h.Latency.Seconds() * 1e3, EjectedFor: h.EjectedFor.Seconds(), LastError: h.LastError,
		})
	}
	return local, gateways
}
