package config

import (
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Sidecar is the configuration of a sidecar process. What [LoadSidecar]
// returns is complete: every default is filled in and every address has a port.
// The sidecar's cluster is not in it: its certificate names that.
type Sidecar struct {
	// The xDS addresses, host or host:port, of this cluster's gateways; at least
	// one. Where their mesh ports are is learned from them. Port 15012 when left out.
	Gateways []string `yaml:"gateways" flag:"address of a gateway of this cluster"`
	// Who this workload is.
	Identity Identity `yaml:"identity"`
	// Other trust domains whose clusters are part of the mesh.
	TrustDomains []TrustDomain `yaml:"trustDomains"`
	// What runs beside the sidecar: one port of one service. Left out by a sidecar that
	// only calls others.
	Service *Service `yaml:"service"`
	// The same for several ports or several services, in place of service.
	Services []ServiceOfPorts `yaml:"services"`
	// Listeners whose callers reach a service, wherever it runs.
	Upstreams []Upstream `yaml:"upstreams"`
	// How the connections of a program that knows nothing of the mesh come here.
	Interception Interception `yaml:"interception"`
	// The directory in which this process keeps what it learned: the routes it
	// accepted last. Two sidecars may not share one.
	State string `yaml:"state" flag:"directory in which this process keeps what it learned"`
	// Where the sidecar listens beside the upstreams.
	Listen SidecarListen `yaml:"listen"`
	// How long running exchanges may take to finish at shutdown, and after that the
	// program that the sidecar started, up to 1h.
	Drain time.Duration `yaml:"drain" flag:"how long running exchanges may take at shutdown, and then the program"`
	// What is written down of the decisions about others.
	Audit Audit `yaml:"audit"`
	// What is logged, to standard error.
	Log Log `yaml:"log"`
}

// SidecarListen are the addresses that a sidecar listens on, as host:port; an
// empty host is every interface.
type SidecarListen struct {
	// Mutual TLS for the program; not opened without a service.
	Inbound string `yaml:"inbound" flag:"address of the inbound port"`
	// Health, metrics and status. It has no authentication: keep it on loopback.
	Admin string `yaml:"admin" flag:"address of the admin port"`
	// TCP, for Prometheus and probes on other hosts: /metrics, /livez and /readyz and
	// nothing else of the admin port. Default: none.
	Metrics string `yaml:"metrics" flag:"address for /metrics, /livez and /readyz alone"`
	// TCP: Go's profiles, at /debug/pprof/. They tell what is in memory: keep it on
	// loopback. Default: none.
	Profiles string `yaml:"profiles" flag:"address for Go's profiles"`
}

// Upstream is an explicit listener: what connects to Listen reaches a service.
type Upstream struct {
	// host:port to listen on. Required.
	Listen string `yaml:"listen"`
	// namespace/name of the service that callers reach. Required.
	Service mesh.ServiceName `yaml:"service"`
	// The service's port. Default: 80.
	Port uint16 `yaml:"port"`
	// The user of this host, by name or number, whose programs alone may use the
	// listener. Default: whoever reaches it.
	User string `yaml:"user"`
	// The only cluster that is to answer. Default: any.
	Cluster mesh.ClusterName `yaml:"cluster"`
	// Bounds on exchanges with the service.
	Timeouts Timeouts `yaml:"timeouts"`
}

// Destination returns what the upstream's callers reach.
func (u *Upstream) Destination() mesh.Destination {
	return mesh.Destination{Service: u.Service, Port: u.Port, Cluster: u.Cluster}
}
