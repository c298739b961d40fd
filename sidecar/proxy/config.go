package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/authorize"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/sidecar/exchange"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// Config is what a [Proxy] is made of. Neither the proxy nor the caller changes it
// after New.
type Config struct {
	// Identity ends the TLS of inbound connections. Needed with Inbound only.
	Identity *identity.Source
	// Routes says what may be dialled; the first connection to a destination that
	// it does not know waits for it (see routeTimeout).
	Routes *routes.Store
	// Upstreams connects to what Routes names: it follows Routes.
	Upstreams *upstream.Set
	// Timeouts says what exchanges with a destination may take; nil: the defaults.
	Timeouts func(mesh.Destination) exchange.Timeouts
	// Explicit are the listeners for the program beside, one per destination.
	Explicit []Explicit
	// Captured are the listeners for the program's captured connections; nil
	// when nothing is captured.
	Captured *Captured
	// Inbound is for callers of what runs beside; nil when nothing does.
	Inbound *Inbound
	// Unread bounds what connections of HTTP/2 hold unread; nil: nothing does.
	Unread *streams.Unread
	// Log receives one line per exchange at debug level (at info when the answer
	// was made by the mesh) and one per change of state. Nil: nothing is logged.
	Log *slog.Logger
	// Metrics may be nil: not registered.
	Metrics prometheus.Registerer
}

// Inbound is the listener for callers of what runs beside this sidecar.
type Inbound struct {
	Listen string // host:port, usually :15008
	// Ports are what is served: at least one without Steered, no two alike.
	Ports []Served
	// Changing: what is served comes and goes, see [Proxy.SetServed]. Ports may be empty.
	Changing bool
	// Steered are the listeners for callers of the programs' own ports; nil: none.
	Steered *Steered
	// Peers says whose TLS is taken; nil: every member of the mesh (gateways included,
	// which check health and deliver for others).
	Peers identity.PeerPolicy
}

// Served is one port of a service, and the program that serves it.
type Served struct {
	Service  mesh.ServiceName
	Port     uint16        // the service's port
	Target   string        // host:port of the program beside
	Protocol mesh.Protocol // what the program speaks
	// Dial connects to Target; nil: a net.Dialer. [Caller] says for whom.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Timeouts bound callers' exchanges; nil: the defaults.
	Timeouts *exchange.Timeouts
	// Connect bounds a TCP connect to the program; 0: 1 s, negative: not at all.
	Connect time.Duration
	// Policy says who may call: nobody while it holds nil, since that is not known yet;
	// without a store everybody may. Observer is told of what it decides.
	Policy   *state.Store[*policy.Authorizer]
	Observer *authorize.Observer
}

func (c *Config) validate() error {
	var faults []error
	if len(c.Explicit) > 0 {
		faults = append(faults, c.needRoutes("explicit"))
	}
	for _, e := range c.Explicit {
		faults = append(faults, checkHostPorts("listener for "+e.Destination.String(), e.Listen))
	}
	if c.Captured != nil {
		faults = append(faults, c.Captured.validate(), c.needRoutes("captured"))
	}
	if in := c.Inbound; in != nil {
		if c.Identity == nil {
			faults = append(faults, errors.New("inbound needs an identity"))
		}
		faults = append(faults, checkHostPorts("inbound listener", in.Listen), in.checkPorts())
		if in.Steered != nil {
			faults = append(faults, in.Steered.validate())
		}
	}
	return errors.Join(faults...)
}

func (in *Inbound) checkPorts() error {
	if len(in.Ports) == 0 && in.Steered == nil && !in.Changing {
		return errors.New("inbound: no port to serve")
	}
	return checkServed(in.Ports)
}

func checkServed(ports []Served) error {
	var faults []error
	for i := range ports {
		p := &ports[i]
		d := mesh.Destination{Service: p.Service, Port: p.Port}
		faults = append(faults, checkHostPorts("target of "+d.String(), p.Target))
		if p.Policy != nil && p.Observer == nil {
			faults = append(faults, fmt.Errorf("inbound: %s has a policy and no observer", d))
		}
		for j := range i {
			if other := &ports[j]; other.Service == p.Service && other.Port == p.Port {
				faults = append(faults, fmt.Errorf("inbound: %s is served twice", d))
			}
		}
	}
	return errors.Join(faults...)
}

func (c *Config) needRoutes(listeners string) error {
	if c.Routes == nil || c.Upstreams == nil {
		return fmt.Errorf("%s listeners need Routes and Upstreams", listeners)
	}
	return nil
}

// checkHostPorts returns an error for each address of what that is not host:port.
func checkHostPorts(what string, addresses ...string) error {
	var faults []error
	for _, a := range addresses {
		if _, _, err := net.SplitHostPort(a); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", what, err))
		}
	}
	return errors.Join(faults...)
}
