package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/internal/admin"
	"github.com/isthmus-mesh/isthmus/internal/audit"
	"github.com/isthmus-mesh/isthmus/internal/authorize"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/enroll"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/osuser"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/sidecar/adsclient"
	"github.com/isthmus-mesh/isthmus/sidecar/beside"
	"github.com/isthmus-mesh/isthmus/sidecar/bundles"
	"github.com/isthmus-mesh/isthmus/sidecar/gatewaylink"
	"github.com/isthmus-mesh/isthmus/sidecar/probes"
	"github.com/isthmus-mesh/isthmus/sidecar/proxy"
	"github.com/isthmus-mesh/isthmus/sidecar/registration"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// The files of the state directory.
const (
	routesFile    = "routes.pb"
	besideFile    = "beside.pb"
	addressesFile = "addresses"
	bundlesFile   = "sidecar-bundles.json"
)

// Options are what a sidecar has beside its configuration file.
type Options struct {
	Log     *slog.Logger // nil discards
	Program []string     // started beside the sidecar, which ends with it; empty: none
	User    *osuser.User // as whom the program runs; nil: as whom the sidecar does
	Serving func() error // called when every listener is bound and the program captured; nil: nothing is

	// Identity is who the sidecar is; nil: what the files of identity.dir say.
	Identity *identity.Source

	// Configuration reads the configuration again for Reload; nil: it cannot be.
	Configuration func() (*config.Sidecar, error)
	// Level is Log's, which Reload may change; nil: it cannot.
	Level *slog.LevelVar
}

// Sidecar is one sidecar process. Run is called once; Shutdown, Reload, Signal and
// Status may be called concurrently while it runs.
type Sidecar struct {
	cfg  *config.Sidecar
	opts Options
	log  *slog.Logger

	// The parts, in the order in which New makes them; set by New.
	registry  *prometheus.Registry
	identity  *identity.Source
	audit     *audit.Log
	mode      config.InterceptionMode // never auto
	upstreams *upstream.Set
	routes    *routes.Store
	direct    *directAddresses // nil unless in a pod
	gateways  gateways
	served    servedPorts // what runs beside by the configuration
	told      *told       // what runs beside by a gateway's word; nil: the configuration says it
	callers   callers     // of what runs beside
	bundles   *bundles.Follower
	ads       *adsclient.Client
	calls     *authorize.Observer // is told of what callers decides
	proxy     *proxy.Proxy
	program   *program // nil: none is started

	// What Run adds, before any part runs.
	started   time.Time
	capture   *capture // nil unless the mode captures
	operators admin.Ports

	// What is in force: cfg, but for what was reloaded.
	inForce  state.Store[*config.Sidecar]
	reloader *admin.Reloader

	startup admin.Readiness // that the program may start; in a pod it waits for that
	ready   admin.Readiness
	stays   *admin.Condition // the sidecar does not drain
	podTest *podTest         // nil unless in a pod

	heardGateway atomic.Bool // in a pod: one was there
}

// New makes every part and connects them. It listens nowhere and starts nothing.
// What it refuses in cfg, [Check] says.
func New(cfg *config.Sidecar, opts Options) (*Sidecar, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
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
	if cfg.Interception.Acceleration == config.AccelerationOn && len(opts.Program) == 0 {
		return nil, &config.KeyError{Key: "interception.acceleration", Problem: "on is for a program that the sidecar starts: write it behind \"--\", or acceleration off"}
	}
	decisions, err := audit.Open(cfg.Audit.File, cfg.Audit.Calls == config.AuditAll, opts.Log)
	if err != nil {
		return nil, &config.KeyError{Key: "audit.file", Problem: err.Error()}
	}
	id.LogTo(opts.Log)
	s := &Sidecar{cfg: cfg, opts: opts, log: opts.Log, registry: admin.NewRegistry(), identity: id, audit: decisions}
	s.inForce.Set(cfg)
	s.reloader = admin.NewReloader(s.log, s.reload)
	s.mode = interceptionMode(&cfg.Interception, s.log)
	s.requireReadiness()
	if len(opts.Program) > 0 {
		s.program = newProgram(opts.Program, s.log)
	}
	if s.mode == config.Pod {
		s.podTest = newPodTest(s.startup.Condition("interception", "not looked at yet"), s.log)
	}
	return s, s.wire()
}

// wire makes the parts.
func (s *Sidecar) wire() (err error) {
	id := s.identity.ID()
	if err := errors.Join(s.identity.Register(s.registry), s.audit.Register(s.registry)); err != nil {
		return err
	}
	unread, err := newUnread(s.registry)
	if err != nil {
		return err
	}
	s.upstreams = upstream.New(upstream.Config{Unread: unread, Identity: s.identity, Cluster: id.Cluster, Connect: s.connectTimeoutToward, Short: func() { s.proxy.Shed() }, Log: s.log})
	if err := s.upstreams.Register(s.registry); err != nil {
		return err
	}
	s.routes = routes.NewStore(s.upstreams.Update, func(d mesh.Destination) { s.ads.Subscribe(d) })
	if s.gateways, err = gatewaylink.New(s.identity, s.cfg.Gateways); err != nil {
		return err
	}
	if err := gatewaylink.Register(s.gateways, s.registry); err != nil {
		return err
	}
	for _, p := range s.served {
		p.registrar = registration.New(s.gateways, p.of, s.log)
	}
	s.bundles = bundles.New(s.gateways, s.identity.Trust(), s.log)
	if s.calls, err = authorize.New(authorize.Config{Audit: s.audit, Log: s.log, Metrics: s.registry}); err != nil {
		return err
	}
	s.ads, err = adsclient.New(adsclient.Config{
		Links: s.gateways, ID: id.String(), Subscribe: declared(s.cfg), Apply: s.routes.Replace,
		Services: s.served.services(), ApplyPolicy: s.applyPolicy,
		StatePath: filepath.Join(s.cfg.State, routesFile), Log: s.log, Metrics: s.registry,
	})
	if err != nil {
		return err
	}
	if s.mode == config.Pod {
		s.direct = s.newDirectAddresses(os.Environ())
	}
	listeners, err := explicit(s.cfg)
	if err != nil {
		return err
	}
	s.proxy, err = proxy.New(proxy.Config{
		Identity: s.identity, Routes: s.routes, Upstreams: s.upstreams, Timeouts: s.timeoutsToward, Explicit: listeners, Captured: s.captured(), Inbound: s.inbound(),
		Unread: unread, Log: s.log, Metrics: s.registry,
	})
	if s.isTold() {
		s.told = &told{
			follower: beside.New(s.gateways, filepath.Join(s.cfg.State, besideFile), s.log),
			callers:  &s.callers, ads: s.ads, direct: s.direct, proxy: s.proxy, dial: s.dialProgram, observer: s.calls, log: s.log,
		}
	}
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
	s.identity.Trust().KeepBundles(filepath.Join(s.cfg.State, bundlesFile))
	if s.mode != config.Explicit {
		if s.capture, err = s.newCapture(); err != nil {
			return fmt.Errorf("interception: %w", err)
		}
		defer func() { err = errors.Join(err, s.capture.close()) }()
	}
	if err := admin.RegisterKept(s.registry, s.kept()); err != nil {
		return err
	}
	s.operators, err = admin.Bind(net.Listen, s.cfg.Listen.Admin, s.cfg.Listen.Metrics, s.cfg.Listen.Profiles)
	if err != nil {
		return err
	}
	all := newParts(ctx)
	s.start(all)
	err = all.Wait()
	if s.program != nil {
		s.program.end() // it may never have been started
	}
	s.operators.Close()
	aborted, abort := context.WithCancel(context.WithoutCancel(ctx))
	abort() // what Shutdown has not let end by now does not get more time
	_ = s.proxy.Shutdown(aborted)
	s.upstreams.Close()
	return err
}

// start starts the parts in their order, unless one of them ends all before.
func (s *Sidecar) start(all *parts) {
	all.start("proxy", s.proxy.Run)
	if !all.await(s.proxy.Ready()) { // every listener is bound
		return
	}
	if s.capture != nil {
		all.start("interception", func(ctx context.Context) error { return s.capture.run(ctx, s.proxy) })
		if !all.await(s.capture.serving) {
			return
		}
	}
	all.start("admin", admin.New(admin.Config{
		Ports: s.operators, Started: &s.startup, Readiness: &s.ready, Metrics: s.registry, Reload: s.reloader, Bundle: s.identity.Trust().Accept, Audit: s.audit, Log: s.log,
		Status: func() any { return s.Status() }, Probes: probes.New(s.cfg.Interception.Probes, s.log),
	}).Run)
	all.start("audit", s.audit.Run)
	all.start("identity", s.identity.Run)
	all.start("bundles", s.bundles.Run)
	all.start("trust", s.watchTrust)
	all.start("trust audit", s.auditTrust)
	all.start("renewals", func(ctx context.Context) error {
		gatewaylink.ShowRenewals(ctx, s.identity, s.gateways)
		return nil
	})
	if s.told != nil {
		s.told.follower.Restore()
		s.told.serve() // before the policies of the services are restored
		all.start("beside", s.told.follower.Run)
		all.start("told", s.told.follow)
	}
	all.start("ads", s.ads.Run)
	for _, p := range s.served {
		all.start("registration", p.registrar.Run)
		all.start("health check", p.watch)
	}
	if s.program != nil {
		all.start("program", s.runProgram)
	}
	s.log.Info("sidecar runs", "identity", s.identity.ID(), "admin", s.operators.Admin.Addr())
	if s.opts.Serving != nil {
		all.Go(s.opts.Serving)
	}
}

// auditTrust writes down which bundles come into force, until ctx ends.
func (s *Sidecar) auditTrust(ctx context.Context) error {
	s.identity.Trust().WatchBundles(ctx, func(b *identity.Bundle) {
		s.audit.Add(audit.Event{Kind: audit.Trust, Decision: audit.Granted, What: b.String()})
	})
	return nil
}

// watchTrust has connections to who is trusted no more cut, whenever that changes.
func (s *Sidecar) watchTrust(ctx context.Context) error {
	past := s.identity.Trust().Past()
	for {
		if !state.Await(ctx, past) {
			return nil
		}
		past = s.identity.Trust().Past() // before the judgement
		s.upstreams.Judge()
		gatewaylink.Judge(s.gateways, s.log)
		if !state.Pause(ctx, time.Second) {
			return nil
		}
		s.upstreams.Judge() // those that were shaking hands
		gatewaylink.Judge(s.gateways, s.log)
	}
}

// Shutdown withdraws the service from the mesh, lets callers' exchanges end, and
// only then asks the program to end: what it does at its end may need the mesh, so
// that its own connections and DNS go on until it has ended. Both may take the drain
// time that is configured each, or until ctx ends. Run must still be running; cancel
// its context afterwards.
func (s *Sidecar) Shutdown(ctx context.Context) error {
	s.log.Info("sidecar drains")
	s.stays.Set("the process ends")
	drain := s.inForce.Load().Drain
	callers, cancel := context.WithTimeout(ctx, drain)
	defer cancel()
	err := errors.Join(s.served.withdraw(callers), s.proxy.ShutdownInbound(callers))
	own, cancel := context.WithTimeout(ctx, drain)
	defer cancel()
	if s.program != nil {
		err = errors.Join(err, s.program.stop(own))
	}
	return errors.Join(err, s.proxy.Shutdown(own))
}

// Drain returns how long Shutdown takes at most.
func (s *Sidecar) Drain() time.Duration { return 2 * s.inForce.Load().Drain }

// Signal passes a signal on to the program, if there is one.
func (s *Sidecar) Signal(sig os.Signal) {
	if s.program != nil {
		s.program.signal(sig)
	}
}
