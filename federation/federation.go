package federation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/audit"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// Config is what a Federation needs. Self, Tunnel and Identity are required.
type Config struct {
	Self        mesh.GatewayID   // this gateway; Identity must be its own
	Advertise   string           // host:port that other gateways dial; empty: they cannot
	MeshAddress string           // host:port that this cluster's sidecars dial
	Join        []string         // addresses of other gateways, host:port; one is enough
	Imports     mesh.Imports     // what is taken of other clusters; nil: everything
	Tunnel      *tunnel.Node     // run and shut down by the caller
	Identity    *identity.Source // signs this gateway's catalog and verifies the others'
	// Sidecars returns those that hold less than this gateway, and how many there are in
	// all; nil: there are none.
	Sidecars  func() (behind []TrustSidecar, all int)
	StatePath string                // file that outlives the process; empty: memory only
	Audit     *audit.Log            // told of what is refused in others' catalogs; nil discards
	Log       *slog.Logger          // nil discards
	Metrics   prometheus.Registerer // nil: not registered
}

// Federation is this gateway's part in the mesh of gateways: it tells package core
// what happens, and does what that decides. Its methods may be called concurrently.
type Federation struct {
	cfg       Config
	log       *slog.Logger
	metrics   *metrics
	transport *transport
	trust     *trustExchange
	client    client
	verifier  verifier
	view      state.Store[*View]
	core      *lockedCore
	memory    *memory
	own       *OwnCatalog

	untold    state.Notify // there is a new version of the own catalog
	withdrawn state.Notify // Shutdown is done but for the last word

	running sync.WaitGroup // every goroutine of Run
	opened  chan struct{}  // closed when the state file was read
	ended   chan struct{}  // closed when Run has returned

	announcing sync.Mutex // memberlist's UpdateNode races with itself

	started atomic.Bool
	list    atomic.Pointer[memberlist.Memberlist] // nil before Run
}

// CheckAddress refuses an address that is too long to be told to other gateways.
func CheckAddress(address string) error {
	if len(address) > maxAddress {
		return fmt.Errorf("%q has more than %d bytes: use a shorter name", address, maxAddress)
	}
	return nil
}

// New checks the configuration and opens nothing.
func New(cfg Config) (*Federation, error) {
	if cfg.Tunnel == nil || cfg.Identity == nil {
		return nil, errors.New("federation: Tunnel and Identity are required")
	}
	if _, err := mesh.ParseGatewayID(cfg.Self.String()); err != nil {
		return nil, fmt.Errorf("federation: %w", err)
	}
	if id := cfg.Identity.ID(); id.GatewayID() != cfg.Self {
		return nil, fmt.Errorf("federation: the certificate is of %s, not of gateway %s: issue one with isthmus pki gateway --cluster %s %s", id, cfg.Self, cfg.Self.Cluster, cfg.Self.Name)
	}
	for _, address := range []string{cfg.Advertise, cfg.MeshAddress} {
		if err := CheckAddress(address); err != nil {
			return nil, fmt.Errorf("federation: %w", err)
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	f := &Federation{
		cfg:       cfg,
		log:       cfg.Log,
		client:    client{cfg.Tunnel},
		verifier:  verifier{cfg.Identity},
		untold:    state.NewNotify(),
		withdrawn: state.NewNotify(),
		opened:    make(chan struct{}),
		ended:     make(chan struct{}),
		core: &lockedCore{
			changed:  state.NewNotify(),
			unlocked: core.New(core.Config{Self: cfg.Self, Advertise: cfg.Advertise, MeshAddress: cfg.MeshAddress, Join: cfg.Join, Imports: cfg.Imports, Random: rand.Int64N}),
		},
	}
	f.trust = &trustExchange{
		trust: cfg.Identity.Trust(), sidecars: cfg.Sidecars, client: f.client, view: &f.view, log: f.log,
		peers: map[mesh.GatewayID]*trustPeer{}, refused: map[string]string{}, lines: rate.NewLimiter(rate.Every(time.Second), maxRefusedLines),
	}
	f.memory = newMemory(cfg.StatePath, f.core, &f.view, f.log)
	f.own = &OwnCatalog{
		self: cfg.Self, core: f.core, memory: f.memory, client: f.client, verifier: f.verifier,
		tell: func() { f.untold.Notify(); f.announce() }, log: f.log, published: state.NewNotify(),
	}
	var err error
	if f.metrics, err = newMetrics(f); err != nil {
		return nil, err
	}
	f.transport = newTransport(cfg.Self, cfg.Tunnel, f.metrics, f.log)
	f.transport.announced = f.hearAnnouncement
	f.core.with(func(c *core.Core) { f.view.Set(c.View()) })
	return f, nil
}

// Run reads the state file, joins the mesh and returns when ctx ends or Shutdown
// is called. Its first [View] after a restart is what the file held, every
// catalog of it stale until confirmed. Run may be called once.
func (f *Federation) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if f.started.Swap(true) {
		return errors.New("federation: Run was called before")
	}
	defer close(f.ended)
	var leaving bool
	f.core.with(func(c *core.Core) { leaving = c.Leaving() })
	if leaving {
		return nil // Shutdown was first
	}

	if err := f.memory.open(); err != nil {
		return fmt.Errorf("federation: %w", err)
	}
	close(f.opened)
	defer func() { _ = f.memory.store.Close() }() // every change is on disk when it is made
	if err := f.createList(); err != nil {
		return fmt.Errorf("federation: %w", err)
	}
	f.cfg.Tunnel.HandlePackets(f.transport.receive)
	defer f.cfg.Tunnel.HandlePackets(nil)
	f.running.Go(func() { f.own.publishLoop(ctx) })
	f.running.Go(func() { f.tellLoop(ctx) })
	f.running.Go(func() { f.watchTunnels(ctx) })
	f.running.Go(func() { f.trust.run(ctx) })
	f.running.Go(func() { f.judgeLoop(ctx) })
	f.running.Go(func() { f.memory.saver.Run(ctx) })
	f.running.Go(func() { f.loop(ctx) })
	select {
	case <-ctx.Done():
	case <-f.withdrawn.C():
		if err := f.list.Load().Leave(leaveGossip); err != nil {
			// Nobody it could be gossiped to in time; the tunnels say it again when they close.
			f.log.Info("leaving was not gossiped", "err", err)
		}
		cancel()
	}
	err := f.list.Load().Shutdown()
	f.running.Wait()
	f.memory.saver.Changed()
	_ = f.memory.saver.Save() // what the loops did last; a fault is logged
	if err != nil {
		return fmt.Errorf("federation: stop gossip: %w", err)
	}
	return nil
}

// Shutdown leaves the mesh: it withdraws this gateway's catalog, waits up to a
// second (less when ctx ends) until the others have taken note, so that they send
// nothing new here and forget this gateway when its tunnels close, then ends Run
// and waits for it. The tunnel, and the server on it, must still run. That the
// others cannot be told is logged and no error.
func (f *Federation) Shutdown(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, leaveTimeout)
	defer stop()
	f.core.apply(core.Leave{})
	if !f.started.Load() || f.hasEnded() {
		return nil
	}
	if f.list.Load() != nil {
		f.own.update(func(s *catalog.State) (*catalog.State, error) {
			if s.Head().Version.Seq == 0 {
				return s, nil // never said anything
			}
			return s.Next(nil)
		})
		f.awaitAcks(ctx)
	}
	f.withdrawn.Notify()
	<-f.ended
	return nil
}

// hasEnded reports whether Run has returned.
func (f *Federation) hasEnded() bool {
	select {
	case <-f.ended:
		return true
	default:
		return false
	}
}

// awaitAcks waits until every live member has pulled the newest own catalog.
func (f *Federation) awaitAcks(ctx context.Context) {
	for {
		var acked bool
		f.core.with(func(c *core.Core) { acked = c.AllAcked() })
		if acked || !state.Pause(ctx, gossipInterval/4) {
			return
		}
	}
}

// Opened is closed when the state file has been read: [View] shows what it held.
func (f *Federation) Opened() <-chan struct{} { return f.opened }

// View returns what is known now, and a channel that closes when there is a newer view.
func (f *Federation) View() (*View, <-chan struct{}) { return f.view.Snapshot() }

// Own returns what this gateway offers.
func (f *Federation) Own() *OwnCatalog { return f.own }

// StateErr returns why what is known of other gateways is not kept on disk; nil: it is.
func (f *Federation) StateErr() error { return f.memory.saver.Err() }

// SetJoin replaces the addresses of other gateways that the configuration names.
func (f *Federation) SetJoin(addresses []string) { f.core.apply(core.Join(slices.Clone(addresses))) }

// SetAdvertise replaces what other gateways dial to reach this one, and tells them.
func (f *Federation) SetAdvertise(address string) error {
	if err := CheckAddress(address); err != nil {
		return err
	}
	f.core.apply(core.Advertise(address))
	f.announce()
	return nil
}

// SetImports replaces what this gateway takes of other clusters, which it keeps.
func (f *Federation) SetImports(imports mesh.Imports) { f.core.apply(core.SetImports(imports)) }
