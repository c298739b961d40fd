package config

import (
	"time"

	"github.com/isthmus-mesh/isthmus/internal/health"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Sidecar is the configuration of a sidecar process. What [LoadSidecar]
// returns is complete: every default is filled in and every address has a port.
// The sidecar's cluster is not in it: its certificate names that.
type Sidecar struct {
	// Gateways are the xDS addresses, host:port, of this cluster's gateways.
	// At least one. Where their mesh ports are comes from them by xDS.
	Gateways []string `yaml:"gateways" flag:"address of a gateway of this cluster"`
	// Identity says who this workload is.
	Identity Identity `yaml:"identity"`
	// Service is what runs beside the sidecar; nil when it only calls others.
	Service *Service `yaml:"service"`
	// Upstreams are the explicit listeners.
	Upstreams []Upstream `yaml:"upstreams"`
	// Interception puts the sidecar beside a program that does not know.
	Interception Interception `yaml:"interception"`
	// State is the directory that this process keeps its memory in: the routes
	// it accepted last. It is claimed with [ClaimState].
	State string `yaml:"state" flag:"directory that this process keeps its memory in"`
	// Listen are the addresses that the sidecar listens on beside the upstreams'.
	Listen SidecarListen `yaml:"listen"`
	// Drain is how long running exchanges may take to finish at shutdown.
	Drain time.Duration `yaml:"drain" flag:"how long running exchanges may take at shutdown"`
	// Log says what is logged, to standard error.
	Log Log `yaml:"log"`
}

// SidecarListen are the addresses that a sidecar listens on, as host:port; an
// empty host is every interface.
type SidecarListen struct {
	Inbound string `yaml:"inbound" flag:"address of the inbound port"` // TCP: mTLS for the program; not opened without a service
	Admin   string `yaml:"admin" flag:"address of the admin port"`     // TCP: health, metrics, status
}

// Service is the program beside a sidecar and the service that it is an
// instance of.
type Service struct {
	Name     mesh.ServiceName `yaml:"name"`
	Port     uint16           `yaml:"port"`     // the service's port that callers name
	Target   string           `yaml:"target"`   // host:port that the program listens on
	Protocol mesh.Protocol    `yaml:"protocol"` // default tcp
	Instance string           `yaml:"instance"` // default: the host name
	// Advertise is host:port at which the cluster's gateways and sidecars reach
	// Listen.Inbound. An empty host, the default, stands for the address that
	// the gateway sees this sidecar's connection come from. A gateway dials any
	// other once, and takes it when this sidecar answers there.
	Advertise string       `yaml:"advertise"`
	Weight    uint32       `yaml:"weight"` // relative capacity, default 1
	Export    bool         `yaml:"export"` // other clusters may call it; default true
	Health    health.Check `yaml:"health"` // of Target; default: a TCP connect
}

// Upstream is an explicit listener: what connects to Listen reaches a service.
type Upstream struct {
	Listen  string           `yaml:"listen"`
	Service mesh.ServiceName `yaml:"service"`
	Port    uint16           `yaml:"port"`    // default 80
	Cluster mesh.ClusterName `yaml:"cluster"` // empty: any cluster
}

// Destination returns what the upstream's callers reach.
func (u *Upstream) Destination() mesh.Destination {
	return mesh.Destination{Service: u.Service, Port: u.Port, Cluster: u.Cluster}
}
