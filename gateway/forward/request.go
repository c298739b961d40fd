package forward

import (
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Request is what a client asks for, and all that the choice of who serves
// depends on beside what the chooser knows of the mesh.
type Request struct {
	connect.Request
	// Load returns how many paths this gateway now runs to the candidate with
	// the given [Candidate.Key].
	Load func(key string) int
	// Intn returns a random number below n.
	Intn func(n int) int
}

// Candidate is one way to serve a request: a gateway of another cluster, or an
// endpoint of this one.
type Candidate struct {
	// Gateway is the far gateway; zero for an endpoint of this cluster.
	Gateway mesh.GatewayID
	// RTT is the smoothed round-trip time to Gateway.
	RTT time.Duration

	// Endpoint is the instance, when Gateway is zero.
	Endpoint mesh.Endpoint

	// Port is the service's port that was asked for, never 0, and Protocol
	// what it speaks.
	Port     uint16
	Protocol mesh.Protocol
}

// Remote reports whether c is a gateway of another cluster.
func (c *Candidate) Remote() bool { return !c.Gateway.IsZero() }

// Key names what c leads to, as [Request.Load] counts it: "cluster/gateway" or
// "host:port".
func (c *Candidate) Key() string {
	if c.Remote() {
		return c.Gateway.String()
	}
	return c.Endpoint.Address
}

// String names c for logs and refusals.
func (c *Candidate) String() string {
	if c.Remote() {
		return c.Gateway.String()
	}
	return c.Endpoint.Instance
}
