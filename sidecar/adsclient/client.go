package adsclient

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/sidecar/gatewaylink"
)

// Config is what a [Client] is made of. Links, ID and Apply are required.
type Config struct {
	// Links lead to the gateways of the sidecar's cluster.
	Links []*gatewaylink.Link
	// ID is the sidecar's SPIFFE ID, as it tells it to the gateways.
	ID string
	// Subscribe are the destinations asked for from the start.
	Subscribe []mesh.Destination
	// Apply is handed everything that the sidecar was told each time it changes, by
	// one goroutine at a time: the routes, and the destinations that were asked for
	// and are explicitly not there, both sorted and not to be changed. It should not
	// block for long.
	Apply func(routes []*mesh.Route, absent []mesh.Destination)
	// Services are the services beside, whose policies are asked for, until SetServices.
	Services []mesh.ServiceName
	// ApplyPolicy is handed who may call one of Services when that was told first, and each time
	// it has changed, as Apply is. Until then it is not known. Needed with services only.
	ApplyPolicy func(*policy.Set)
	// StatePath is the file that keeps the last accepted state. Empty: none.
	StatePath string
	// Log receives one line per change of gateway and refusal. Nil discards.
	Log *slog.Logger
	// Metrics is where isthmus_xds_client_… are registered. Nil: not registered.
	Metrics prometheus.Registerer
}

// Client keeps a sidecar told. Its methods may be called concurrently.
type Client struct {
	cfg        Config
	log        *slog.Logger
	metrics    *metrics
	subscribed *subscriptions
	saver      *state.Saver

	mu       sync.Mutex // the ADS loop writes accepted under it, the saver reads
	accepted *accepted

	applied map[mesh.ServiceName]*policy.Set // what ApplyPolicy was handed last; the ADS loop's
}

// New returns a client that does nothing until Run.
func New(cfg Config) (*Client, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg: cfg, log: cfg.Log, metrics: m, subscribed: newSubscriptions(), accepted: newAccepted(cfg.Services),
		applied: map[mesh.ServiceName]*policy.Set{},
	}
	c.saver = state.NewSaver(state.SaverConfig{
		What: "the routes and the policy last accepted", Write: c.save, Delay: saveDelay, Interval: saveInterval, Log: c.log,
	})
	c.subscribed.setServices(cfg.Services)
	c.Subscribe(cfg.Subscribe...)
	return c, nil
}

// Run applies the state on disk, then talks to the gateways until ctx ends. It
// returns nil: unreachable gateways are no reason to stop.
func (c *Client) Run(ctx context.Context) error {
	c.restore()
	var saving sync.WaitGroup
	saving.Go(func() { c.saver.Run(ctx) })
	c.follow(ctx)
	saving.Wait()
	_ = c.saver.Save() // what was accepted last, however late; a fault is logged
	return nil
}

// Subscribe asks for further destinations. It never blocks; what is subscribed
// to already is not asked for again. Beyond 10,000 destinations it is ignored.
func (c *Client) Subscribe(dests ...mesh.Destination) {
	if refused := c.subscribed.add(dests); len(refused) > 0 {
		c.log.Error("too many destinations in use, this one is not asked for", "service", refused[0].String(), "limit", maxSubscriptions)
	}
}

// SetServices replaces the services beside, whose policies are asked for. It never blocks;
// services must not be changed afterwards.
func (c *Client) SetServices(services []mesh.ServiceName) { c.subscribed.setServices(services) }

// Unsubscribe gives destinations up and drops what is known of them.
func (c *Client) Unsubscribe(dests ...mesh.Destination) { c.subscribed.remove(dests) }

// StateErr returns why what was accepted is not kept on disk, nil when it is.
func (c *Client) StateErr() error { return c.saver.Err() }

// restore applies the state on disk and subscribes to what is in it: it was in
// use before the restart.
func (c *Client) restore() {
	if services := c.subscribed.served(); !slices.Equal(services, c.accepted.services) { // SetServices came before
		c.pruneServices(services)
	}
	if err := readState(c.cfg.StatePath, c.accepted); err != nil {
		c.log.Warn("the last accepted state is not used", "err", err)
		return
	}
	if len(c.accepted.routes) == 0 && len(c.accepted.policies) == 0 {
		return
	}
	backends := c.accepted.backends(func(string) bool { return true })
	for name, r := range c.accepted.routes {
		if _, led := backends[name]; !led {
			c.Subscribe(r.Destination)
		}
	}
	c.apply()
	c.log.Info("started from the last accepted state", "routes", len(c.accepted.routes))
}

// applyChange hands on what has changed and has it saved. Called by the ADS loop.
func (c *Client) applyChange() {
	c.apply()
	c.saver.Changed()
}

// apply hands the whole state on. Called by Run before the ADS loop, and by that.
func (c *Client) apply() {
	routes, absent := c.accepted.state()
	c.subscribed.lead(c.accepted.backends(c.subscribed.has))
	c.metrics.routes.Set(float64(len(routes)))
	c.metrics.absent.Set(float64(len(absent)))
	c.cfg.Apply(routes, absent)
	for _, name := range c.accepted.services {
		if set := c.accepted.policies[name]; set != c.applied[name] {
			c.applied[name] = set
			c.cfg.ApplyPolicy(set)
		}
	}
}
