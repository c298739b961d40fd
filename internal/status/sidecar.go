package status

import "github.com/isthmus-mesh/isthmus/internal/mesh"

// Sidecar is what a sidecar answers.
type Sidecar struct {
	Identity    string         `json:"identity"` // its SPIFFE ID
	Version     string         `json:"version"`
	Ready       bool           `json:"ready"`
	Pending     []Condition    `json:"pending,omitempty"` // of readiness
	Uptime      float64        `json:"uptime_seconds"`
	Certificate Certificate    `json:"certificate"`
	Gateways    []GatewayLink  `json:"gateways"`
	Upstreams   []Upstream     `json:"upstreams"`
	Services    []Registration `json:"services,omitempty"` // what runs beside, a port each
	Trust       []Trust        `json:"trust"`
	StateError  string         `json:"state_error,omitempty"` // why what it knows is not kept on disk
	Reload      *Reload        `json:"reload,omitempty"`      // the last one

	Interception Interception `json:"interception"`
}

// Interception is how the program's connections come to the sidecar.
type Interception struct {
	Mode         string `json:"mode"` // never auto
	Name         string `json:"name,omitempty"`
	Cgroup       string `json:"cgroup,omitempty"`
	OnFailure    string `json:"on_failure,omitempty"`
	Inbound      string `json:"inbound,omitempty"`      // with mode ebpf or pod
	Accelerating bool   `json:"accelerating,omitempty"` // as configured, and the kernel passed the test
}

// GatewayLink is one configured gateway of a sidecar.
type GatewayLink struct {
	Address    string `json:"address"`
	XDS        bool   `json:"xds"`        // routes come from this one
	Registered bool   `json:"registered"` // it knows this sidecar's service
	LastError  string `json:"last_error,omitempty"`
}

// Upstream is one explicit listener of a sidecar and where it leads.
type Upstream struct {
	Listen      string           `json:"listen"`
	Destination mesh.Destination `json:"destination"`
	State       string           `json:"state"`             // known, absent, pending
	LocalShare  float64          `json:"local_share"`       // of new requests, 0 to 1: those for the own cluster
	Avoided     []string         `json:"avoided,omitempty"` // ejected instances of other clusters, cluster/instance
	Local       []Host           `json:"local"`
	Gateways    []Host           `json:"gateways"`
}

// Host is one host that a sidecar may dial.
type Host struct {
	Instance   string  `json:"instance,omitempty"` // empty for a gateway
	Address    string  `json:"address"`
	Ready      bool    `json:"ready"`                 // as the control plane says
	Weight     uint32  `json:"weight"`                // relative capacity
	Active     int64   `json:"active"`                // requests and TCP connections that run
	Idle       int     `json:"idle"`                  // pooled connections
	Shared     int     `json:"shared"`                // connections that many requests use at a time (HTTP/2)
	Streams    int     `json:"streams"`               // of them in use
	LatencyMS  float64 `json:"latency_ms"`            // moving average, 0: unknown
	EjectedFor float64 `json:"ejected_for,omitempty"` // seconds for which the sidecar avoids it
	LastError  string  `json:"last_error,omitempty"`
}

// Registration is one port of a service beside a sidecar.
type Registration struct {
	Service  mesh.ServiceName `json:"service"`
	Port     uint16           `json:"port"`
	Protocol mesh.Protocol    `json:"protocol"`
	Target   string           `json:"target"`
	Ready    bool             `json:"ready"`
}
