package xds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/wholefile"
)

// State is everything that the sidecar was told, whole. Its values must not be
// changed.
type State struct {
	Routes []*mesh.Route      // sorted by destination
	Absent []mesh.Destination // asked for and explicitly not there; sorted
}

// Config is what a [Client] is made of. Identity, Cluster, Gateways and Apply are
// required.
type Config struct {
	// Identity is the sidecar's certificate and what it trusts.
	Identity *identity.Source
	// Cluster is the sidecar's own.
	Cluster mesh.ClusterName
	// Gateways are the xDS addresses (host:port) of the cluster's gateways.
	Gateways []string
	// Subscribe are the destinations asked for from the start.
	Subscribe []mesh.Destination
	// Apply is handed the whole state each time it changes, by one goroutine at
	// a time. It should not block for long.
	Apply func(State)
	// StatePath is the file that keeps the last accepted state. Empty: none.
	StatePath string
	// Log receives one line per change of gateway and refusal. Nil: slog.Default.
	Log *slog.Logger
	// Metrics is where isthmus_xds_client_… are registered. Nil: not registered.
	Metrics prometheus.Registerer
}

// Registration is the service beside the sidecar, as its gateways are told.
type Registration struct {
	Service  mesh.ServiceName
	Port     uint16
	Protocol mesh.Protocol
	Instance string // unique among the service's endpoints in the cluster
	Address  string // host:port of the inbound mTLS listener; ":15008" lets the gateway fill in where it sees the sidecar
	Ready    bool   // the program answers
	Weight   uint32 // relative capacity; 0 means 1
	Export   bool   // other clusters are told
}

// GatewayStatus is how things stand with one gateway.
type GatewayStatus struct {
	Gateway    string `json:"gateway"` // its xDS address
	ADS        bool   `json:"ads"`     // the routes come from it
	Registered bool   `json:"registered"`
	Address    string `json:"address,omitempty"`    // under which the cluster dials this sidecar
	LastError  string `json:"last_error,omitempty"` // of the latest attempt; empty when it stands
}

// Client keeps a sidecar and its gateways told. Its methods may be called from
// any goroutine.
type Client struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	links   []*link
	synced  chan struct{} // closed once, by New or the ADS loop

	accepted  *accepted // the ADS loop's own
	saveFault string    // of the last write; the save loop's own, and Run's after that

	mu           sync.Mutex
	wanted       map[string]struct{} // names subscribed to
	registration *Registration
	registerPast chan struct{} // closed when registration is past
	statusPast   chan struct{} // closed when the status of a link is past
	unsaved      []byte        // the next content of the state file; nil: it is current

	wake chan struct{} // holds one: wanted has changed
	save chan struct{} // holds one: unsaved is set
}

// New returns a client that does nothing until Run.
func New(cfg Config) (*Client, error) {
	switch {
	case cfg.Identity == nil:
		return nil, errors.New("xds client: no identity")
	case cfg.Cluster == "":
		return nil, errors.New("xds client: no cluster")
	case cfg.Apply == nil:
		return nil, errors.New("xds client: no Apply")
	case len(cfg.Gateways) == 0:
		return nil, errors.New("xds client: no gateways: name at least one gateway of this cluster")
	}
	c := &Client{
		cfg:          cfg,
		log:          cfg.Log,
		metrics:      newMetrics(cfg.Metrics),
		synced:       make(chan struct{}),
		accepted:     newAccepted(),
		wanted:       map[string]struct{}{},
		registerPast: make(chan struct{}),
		statusPast:   make(chan struct{}),
		wake:         make(chan struct{}, 1),
		save:         make(chan struct{}, 1),
	}
	if c.log == nil {
		c.log = slog.Default()
	}
	for _, addr := range cfg.Gateways {
		if slices.ContainsFunc(c.links, func(l *link) bool { return l.addr == addr }) {
			continue
		}
		c.links = append(c.links, newLink(addr, &c.cfg))
	}
	c.Subscribe(cfg.Subscribe...)
	c.checkSynced() // nothing declared, nothing to wait for
	return c, nil
}

// Run applies the state on disk, then talks to the gateways until ctx ends. It
// returns nil: unreachable gateways are no reason to stop.
func (c *Client) Run(ctx context.Context) error {
	c.restore()
	var loops sync.WaitGroup
	loops.Go(func() { c.adsLoop(ctx) })
	loops.Go(func() { c.saveLoop(ctx) })
	for _, l := range c.links {
		loops.Go(func() { c.registerLoop(ctx, l) })
	}
	loops.Wait()
	c.write() // what was accepted last, however late
	return nil
}

// Subscribe asks for further destinations. It never blocks; what is subscribed
// to already is not asked for again. Beyond 10,000 destinations it is ignored.
func (c *Client) Subscribe(dests ...mesh.Destination) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range dests {
		if len(c.wanted) >= maxSubscriptions {
			c.log.Error("too many destinations in use, this one is not asked for", "service", d.String(), "limit", maxSubscriptions)
			return
		}
		c.wanted[d.String()] = struct{}{}
	}
	poke(c.wake)
}

// Unsubscribe gives destinations up and drops what is known of them.
func (c *Client) Unsubscribe(dests ...mesh.Destination) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range dests {
		delete(c.wanted, d.String())
	}
	poke(c.wake)
}

// Register replaces what the gateways are told of the service beside the sidecar.
// Nil withdraws it. It never blocks; r must not be changed afterwards.
func (c *Client) Register(r *Registration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.registration = r
	close(c.registerPast)
	c.registerPast = make(chan struct{})
}

// Shutdown withdraws the registration and returns when every gateway that may
// hold it has confirmed or is gone, or ctx ends. Routes go on being received until Run's context
// ends, so that what still runs is served.
func (c *Client) Shutdown(ctx context.Context) error {
	c.Register(nil)
	for {
		c.mu.Lock()
		past := c.statusPast
		c.mu.Unlock()
		var still []string
		for _, l := range c.links {
			if l.mayHold() {
				still = append(still, l.addr)
			}
		}
		if len(still) == 0 {
			return nil
		}
		select {
		case <-past:
		case <-ctx.Done():
			return fmt.Errorf("withdraw from gateway %s: %w", strings.Join(still, ", "), ctx.Err())
		}
	}
}

// Synced is closed when a gateway has answered for every destination of
// Config.Subscribe: a named task of readiness.
func (c *Client) Synced() <-chan struct{} { return c.synced }

// Status returns one entry per configured gateway, in their order.
func (c *Client) Status() []GatewayStatus {
	all := make([]GatewayStatus, len(c.links))
	for i, l := range c.links {
		all[i] = l.snapshot()
	}
	return all
}

// note changes the status of l and wakes who waits for a change.
func (c *Client) note(l *link, change func(*GatewayStatus)) {
	l.note(change)
	registered, connected := 0, 0
	for _, s := range c.Status() {
		if s.Registered {
			registered++
		}
		if s.ADS {
			connected = 1
		}
	}
	c.metrics.registered.Set(float64(registered))
	c.metrics.connected.Set(float64(connected))
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.statusPast)
	c.statusPast = make(chan struct{})
}

// restore applies the state on disk and subscribes to what is in it: it was in
// use before the restart.
func (c *Client) restore() {
	if c.cfg.StatePath == "" {
		return
	}
	if err := readState(c.cfg.StatePath, c.accepted); err != nil {
		c.log.Warn("the last accepted state is not used", "err", err)
		return
	}
	if len(c.accepted.routes) == 0 {
		return
	}
	for _, r := range c.accepted.routes {
		c.Subscribe(r.Destination)
	}
	c.apply()
	c.log.Info("started from the last accepted state", "routes", len(c.accepted.routes))
}

// apply hands the state on. Called by Run before the loops and by the ADS loop.
func (c *Client) apply() {
	s := c.accepted.state()
	c.metrics.routes.Set(float64(len(s.Routes)))
	c.metrics.absent.Set(float64(len(s.Absent)))
	c.cfg.Apply(s)
}

// keep has the state written to disk. Called by the ADS loop.
func (c *Client) keep() {
	if c.cfg.StatePath == "" {
		return
	}
	b, err := c.accepted.marshal()
	if err != nil {
		c.log.Error("the state is not kept on disk", "err", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unsaved = b
	poke(c.save)
}

// saveLoop writes the state file a moment after it has changed, and at most once
// per saveInterval, until ctx ends.
func (c *Client) saveLoop(ctx context.Context) {
	for {
		select {
		case <-c.save:
		case <-ctx.Done():
			return
		}
		if !pause(ctx, saveDelay) {
			return
		}
		c.write()
		if !pause(ctx, saveInterval) {
			return
		}
	}
}

// write writes the state file when it is behind. What cannot be written, because
// the disk is full, is tried again with the next content or a moment later.
func (c *Client) write() {
	c.mu.Lock()
	b := c.unsaved
	c.unsaved = nil
	c.mu.Unlock()
	if b == nil {
		return
	}
	err := wholefile.Write(c.cfg.StatePath, b, 0o600)
	if err == nil {
		c.saveFault = ""
		return
	}
	if err.Error() != c.saveFault { // once, not every saveInterval
		c.saveFault = err.Error()
		c.log.Warn("the state is not kept on disk: trying on", "err", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unsaved == nil {
		c.unsaved = b
	}
	poke(c.save)
}

// poke puts a token into a channel that holds one.
func poke(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
