package ca

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/internal/admin"
	"github.com/isthmus-mesh/isthmus/internal/audit"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/tlsport"
)

// Options are what a CA has beside its configuration file. The zero value is a process
// on a real network.
type Options struct {
	Log     *slog.Logger // nil discards
	Serving func() error // called when every listener is bound; may be nil

	// Configuration reads the configuration again, for [CA.Reload]; nil: it cannot be.
	// Level is that of Log, which a reload changes; nil: it stays.
	Configuration func() (*config.CA, error)
	Level         *slog.LevelVar
}

// CA is one process that issues certificates. Run is called once; Shutdown, Reload and
// Status may be called concurrently while it runs.
type CA struct {
	cfg      *config.CA                // with which it was started
	inForce  atomic.Pointer[config.CA] // cfg, with what reloads have changed
	opts     Options
	log      *slog.Logger
	reloader *admin.Reloader // nil: there is nothing to read
	registry *prometheus.Registry
	ready    admin.Readiness
	started  time.Time

	authority  atomic.Pointer[identity.Authority]
	identity   *identity.Source // this process's own certificate; it ends with the authority's
	audit      *audit.Log
	limits     *limit.Limits
	gateways   *gateways
	sources    *limit.Rates[limit.Source]
	identities *limit.Rates[identity.ID]
	reviews    *reviews // nil: no tokens of service accounts are taken
	pods       *pods    // nil as reviews is

	// wired is set when what follows is: Shutdown may be called before.
	wired     atomic.Bool
	port      *tlsport.Port
	operators admin.Ports
	used      *usedTokens
	metrics   *metrics
	grpc      *grpc.Server
}

// New reads the authority and checks cfg. It listens nowhere and starts nothing. What it
// refuses in cfg, [Check] says.
func New(cfg *config.CA, opts Options) (*CA, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	authority, own, err := open(cfg)
	if err != nil {
		return nil, err
	}
	decisions, err := audit.Open(cfg.Audit.File, false, opts.Log)
	if err != nil {
		return nil, &config.KeyError{Key: "audit.file", Problem: err.Error()}
	}
	ca := &CA{
		cfg: cfg, opts: opts, log: opts.Log, registry: admin.NewRegistry(), audit: decisions,
		sources: limit.NewRates[limit.Source](sourceRate, sourceBurst), identities: limit.NewRates[identity.ID](identityRate, identityBurst),
	}
	ca.inForce.Store(cfg)
	ca.authority.Store(authority)
	ca.identity, err = identity.New(own.Material(), identity.Origin{
		Follow: ca.follow,
		Renew:  fmt.Sprintf("make another intermediate with 'isthmus pki cluster %s --force' and bring it to %s", authority.Cluster(), cfg.Authority),
	})
	if err != nil {
		return nil, &config.KeyError{Key: "authority", Problem: err.Error()}
	}
	ca.identity.LogTo(ca.log)
	if opts.Configuration != nil {
		ca.reloader = admin.NewReloader(ca.log, ca.reload)
	}
	if cfg.Kubernetes != nil {
		review, get, err := askAPIServer(cfg.Kubernetes, ca.log, ca.registry)
		if err != nil {
			return nil, err
		}
		asking := newAsking()
		ca.reviews = newReviews(cfg.Kubernetes, review, asking, ca.identity.ID())
		ca.pods = newPods(cfg.Kubernetes, get, asking, time.Now(), ca.log)
	}
	ca.gateways = newGateways(ca)
	if ca.limits, err = limit.New(ca.registry); err != nil {
		return nil, err
	}
	ca.ready.Require("certificate", func() string {
		if err := ca.identity.Err(); err != nil {
			return err.Error()
		}
		return ""
	})
	return ca, errors.Join(ca.identity.Register(ca.registry), ca.audit.Register(ca.registry))
}

// Check says what [New] refuses in cfg. It reads the authority and opens nothing else.
func Check(cfg *config.CA) error {
	_, _, err := open(cfg)
	if cfg.Kubernetes != nil {
		_, _, kubeErr := askAPIServer(cfg.Kubernetes, nil, nil)
		err = errors.Join(err, kubeErr)
	}
	return err
}

// Run claims the state directory, binds every port and serves, until ctx ends or a part
// fails.
func (ca *CA) Run(ctx context.Context) (err error) {
	ca.started = time.Now()
	release, err := config.ClaimState(ca.cfg.State, config.CARole)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	if ca.used, err = openUsedTokens(filepath.Join(ca.cfg.State, usedTokensFile), time.Now(), ca.log); err != nil {
		return err
	}
	defer ca.used.close()
	if ca.metrics, err = newMetrics(ca.registry, ca.used); err != nil {
		return err
	}
	ca.identity.Trust().KeepBundles(filepath.Join(ca.cfg.State, bundlesFile))
	kept := ca.kept()
	if err := admin.RegisterKept(ca.registry, kept); err != nil {
		return err
	}
	ca.ready.Require("state", func() string { return admin.KeptError(kept) })
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", ca.cfg.Listen.GRPC)
	if err != nil {
		return fmt.Errorf("listen.grpc: %w", err)
	}
	if ca.operators, err = admin.Bind(net.Listen, ca.cfg.Listen.Admin, ca.cfg.Listen.Metrics, ca.cfg.Listen.Profiles); err != nil {
		return errors.Join(err, listener.Close())
	}
	ca.port, ca.grpc = ca.newPort(listener), newGRPC(service{ca: ca})
	ca.wired.Store(true)

	group, ctx := errgroup.WithContext(ctx)
	start := func(name string, run func(context.Context) error) {
		group.Go(func() error {
			if err := run(ctx); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	start("admin", admin.New(admin.Config{
		Ports: ca.operators, Readiness: &ca.ready, Metrics: ca.registry, Reload: ca.reloader, Bundle: ca.identity.Trust().Accept, Audit: ca.audit, Log: ca.log,
		Status: func() any { return ca.Status() },
	}).Run)
	start("audit", ca.audit.Run)
	start("identity", ca.identity.Run)
	start("bundles", ca.gateways.run)
	start("certificates", ca.serve)
	ca.log.Info("ca runs", "id", ca.identity.ID().String(), "grpc", ca.port.Addr(), "admin", ca.operators.Admin.Addr(),
		"intermediate", ca.authority.Load().Fingerprint(), "not_after", ca.authority.Load().NotAfter())
	if ca.opts.Serving != nil {
		group.Go(ca.opts.Serving)
	}
	return group.Wait()
}

// Drain is how long a shutdown may take.
func (ca *CA) Drain() time.Duration { return ca.inForce.Load().Drain }

// Shutdown stops listening and lets running calls end until ctx does. Run must still be
// running; cancel its context afterwards.
func (ca *CA) Shutdown(ctx context.Context) error {
	if !ca.wired.Load() {
		return nil
	}
	ca.log.Info("ca drains", "id", ca.identity.ID().String())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ca.grpc.GracefulStop()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		ca.grpc.Stop()
		<-done
		return fmt.Errorf("running calls were cut off: %w", ctx.Err())
	}
}

// kept are the files of the state directory.
func (ca *CA) kept() []admin.KeptFile {
	return []admin.KeptFile{{Name: usedTokensFile, Err: ca.used.err}, {Name: bundlesFile, Err: ca.identity.Trust().KeptErr}}
}
