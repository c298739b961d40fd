package xds

import (
	"context"
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
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
	cfg Config
}

// New returns a client that does nothing until Run.
func New(cfg Config) (*Client, error) { return nil, errors.New("todo") }

// Run applies the state on disk, then talks to the gateways until ctx ends. It
// returns nil: unreachable gateways are no reason to stop.
func (c *Client) Run(ctx context.Context) error { return nil }

// Subscribe asks for further destinations. It never blocks; what is subscribed
// to already is not asked for again.
func (c *Client) Subscribe(dests ...mesh.Destination) {}

// Unsubscribe gives destinations up and drops what is known of them.
func (c *Client) Unsubscribe(dests ...mesh.Destination) {}

// Register replaces what the gateways are told of the service beside the sidecar.
// Nil withdraws it. It never blocks.
func (c *Client) Register(r *Registration) {}

// Shutdown withdraws the registration and returns when every gateway that had it
// has confirmed, or ctx ends. Routes go on being received until Run's context
// ends, so that what still runs is served.
func (c *Client) Shutdown(ctx context.Context) error { return nil }

// Synced is closed when a gateway has answered for every destination of
// Config.Subscribe: a named task of readiness.
func (c *Client) Synced() <-chan struct{} { return nil }

// Status returns one entry per configured gateway, in their order.
func (c *Client) Status() []GatewayStatus { return nil }
