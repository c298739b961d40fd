package federation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// Config is what a Federation needs. Self, Tunnel and Identity are required.
type Config struct {
	Self        mesh.GatewayID        // this gateway; Identity must be its own
	Advertise   string                // host:port that other gateways dial; empty: they cannot
	MeshAddress string                // host:port that this cluster's sidecars dial
	Join        []string              // addresses of other gateways, host:port; one is enough
	Tunnel      *tunnel.Node          // run and shut down by the caller
	Identity    *identity.Source      // signs this gateway's catalog and verifies the others'
	StatePath   string                // file that outlives the process; empty: memory only
	Log         *slog.Logger          // nil: slog.Default
	Metrics     prometheus.Registerer // nil: not registered
}

// Federation is this gateway's part in the mesh of gateways. Its methods may be
// called concurrently.
type Federation struct {
	cfg       Config
	log       *slog.Logger
	metrics   *metrics
	transport *transport

	publishKick chan struct{} // Publish has something; each of these holds one
	stepKick    chan struct{} // what step looks at has changed
	storeKick   chan struct{} // what the state file holds has changed

	running sync.WaitGroup // every goroutine of Run

	ownMu sync.Mutex // held while the own catalog goes from one version to the next

	listMu   sync.Mutex // memberlist must not leave after, or while, it shuts down
	listDown bool       // it has been shut down

	mu         sync.Mutex
	started    bool
	cancel     context.CancelFunc // ends Run; nil before
	ended      chan struct{}      // closed when Run has returned
	store      *store
	list       *memberlist.Memberlist // nil before Run
	listKeys   *memberlist.Keyring
	pending    []mesh.Export // what Publish was last given
	own        *catalog.State
	ownSig     identity.Signature
	ownExpiry  time.Time // of the certificate that signed
	ownMoved   time.Time // when the own epoch was last moved
	leaving    bool
	origins    map[mesh.GatewayID]*origin
	members    map[mesh.GatewayID]*member
	peers      map[mesh.GatewayID]*peer
	remembered map[mesh.GatewayID]savedGateway
	ring       keyring
	primary    gossipKey
	ringSince  time.Time // when the newest key came
	targets    []tunnel.Target
	pulls      int // running
	viewDirty  bool
	dirty      dirty
	confirmed  time.Time // when confirmations were last noted

	viewMu sync.RWMutex
	view   *View
	past   chan struct{} // closes when view is past
}

// dirty names what the state file does not hold yet.
type dirty struct {
	keys     bool
	confirm  bool
	origins  map[mesh.GatewayID]bool
	gateways map[mesh.GatewayID]bool
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
	f := &Federation{
		cfg:         cfg,
		log:         cfg.Log,
		publishKick: make(chan struct{}, 1),
		stepKick:    make(chan struct{}, 1),
		storeKick:   make(chan struct{}, 1),
		ended:       make(chan struct{}),
		store:       &store{},
		own:         catalog.New(cfg.Self, 0),
		origins:     make(map[mesh.GatewayID]*origin),
		members:     make(map[mesh.GatewayID]*member),
		peers:       make(map[mesh.GatewayID]*peer),
		remembered:  make(map[mesh.GatewayID]savedGateway),
		past:        make(chan struct{}),
	}
	if f.log == nil {
		f.log = slog.Default()
	}
	f.dirty.reset()
	f.metrics = newMetrics(f)
	if err := f.metrics.register(cfg.Metrics); err != nil {
		return nil, err
	}
	f.transport = newTransport(cfg.Self, cfg.Tunnel, f.metrics)
	f.view = f.buildViewLocked()
	return f, nil
}

func (d *dirty) reset() {
	*d = dirty{origins: make(map[mesh.GatewayID]bool), gateways: make(map[mesh.GatewayID]bool)}
}

// Run reads the state file, joins the mesh and returns when ctx ends or Shutdown
// is called. Its first [View] after a restart is what the file held, every
// catalog of it stale until confirmed. Run may be called once.
func (f *Federation) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.mu.Lock()
	if f.started {
		f.mu.Unlock()
		return errors.New("federation: Run was called before")
	}
	f.started, f.cancel = true, cancel
	leaving := f.leaving
	f.mu.Unlock()
	defer close(f.ended)
	if leaving {
		return nil // Shutdown was first
	}

	if err := f.open(); err != nil {
		return fmt.Errorf("federation: %w", err)
	}
	defer func() { _ = f.store.Close() }() // every change is on disk when it is made
	if err := f.createList(); err != nil {
		return fmt.Errorf("federation: %w", err)
	}
	f.running.Go(func() { f.transport.readPackets(ctx) })
	f.running.Go(func() { f.publishLoop(ctx) })
	f.running.Go(func() { f.watchTunnels(ctx) })
	f.running.Go(func() { f.storeLoop(ctx) })
	f.running.Go(func() { f.keep(ctx) })
	<-ctx.Done()
	f.listMu.Lock()
	err := f.list.Shutdown()
	f.listDown = true
	f.listMu.Unlock()
	f.running.Wait()
	f.flush() // what the loops did last
	if err != nil {
		return fmt.Errorf("federation: stop gossip: %w", err)
	}
	return nil
}

// open reads the state file and takes the next epoch.
func (f *Federation) open() error {
	st, err := openStore(f.cfg.StatePath, f.log)
	if err != nil {
		return err
	}
	was, err := st.load(f.log)
	if err != nil {
		_ = st.Close() // the other error says more
		return err
	}
	// The clock makes the epoch grow even without a state file; the file makes it
	// grow even when the clock was set back.
	epoch := max(was.Epoch+1, uint64(time.Now().UnixMilli()))
	if err := st.saveEpoch(epoch); err != nil {
		f.log.Error("the epoch is not kept: peers do not believe this gateway after a restart with the clock set back", "err", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.store = st
	f.own = catalog.New(f.cfg.Self, epoch)
	f.restoreLocked(was)
	f.viewDirty = true
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
	f.mu.Lock()
	started, cancel, list := f.started, f.cancel, f.list
	f.leaving = true
	f.pending = nil
	f.mu.Unlock()
	if !started {
		return nil
	}
	defer func() { // after leave has given listMu back
		cancel()
		<-f.ended
	}()
	if list != nil {
		f.leave(ctx, list)
	}
	return nil
}

// leave is Shutdown but for the end.
func (f *Federation) leave(ctx context.Context, list *memberlist.Memberlist) {
	f.updateOwn(func(s *catalog.State) (*catalog.State, error) {
		if s.Head().Version.Seq == 0 {
			return s, nil // never said anything
		}
		return s.Next(nil)
	})
	f.awaitNoted(ctx)
	f.listMu.Lock()
	defer f.listMu.Unlock()
	if f.listDown {
		return // Run has ended by itself
	}
	if err := list.Leave(leaveGossip); err != nil {
		// Nobody it could be gossiped to in time; the tunnels say it again when they close.
		f.log.Info("leaving was not gossiped", "err", err)
	}
}

// awaitNoted waits until every live member has pulled the newest own catalog.
func (f *Federation) awaitNoted(ctx context.Context) {
	for {
		noted := true
		f.mu.Lock()
		v := f.own.Head().Version
		for id, p := range f.peers {
			m := f.members[id] // who does not gossip does not hear of it in time
			if p.State == tunnel.Up && m != nil && m.alive && v.Seq > 0 && p.noted.Compare(v) < 0 {
				noted = false
			}
		}
		f.mu.Unlock()
		if noted {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(gossipInterval / 4):
		}
	}
}

// View returns what is known now, and a channel that closes when there is a newer view.
func (f *Federation) View() (*View, <-chan struct{}) {
	f.viewMu.RLock()
	defer f.viewMu.RUnlock()
	return f.view, f.past
}

// kick wakes a loop that need not be told how often.
func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
