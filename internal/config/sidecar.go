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
	// The xDS addresses, host or host:port, of this cluster's gateways; at least
	// one. Where their mesh ports are is learned from them. Port 15012 when left out.
	Gateways []string `yaml:"gateways" flag:"address of a gateway of this cluster"`
	// Who this workload is.
	Identity Identity `yaml:"identity"`
	// Other trust domains whose clusters are part of the mesh.
	TrustDomains []TrustDomain `yaml:"trustDomains"`
	// What runs beside the sidecar. Left out by a sidecar that only calls others.
	Service *Service `yaml:"service"`
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

// Service is the program beside a sidecar and the service that it is an
// instance of.
type Service struct {
	// namespace/name, such as shop/orders. Required. The namespace is that of the
	// certificate.
	Name mesh.ServiceName `yaml:"name"`
	// The service's port that callers name.
	Port uint16 `yaml:"port"`
	// host:port that the program listens on. Required.
	Target string `yaml:"target"`
	// What the program speaks: http, grpc or http2 (HTTP/2 without TLS), tcp, or auto, which
	// goes by the first bytes of each connection.
	Protocol mesh.Protocol `yaml:"protocol"`
	// This instance's name among those of the service. Default: the host name.
	Instance string `yaml:"instance"`
	// host:port at which the cluster's gateways and sidecars reach listen.inbound.
	// Without a host, as by default, it is the address that the gateway sees this
	// sidecar's connection come from. A gateway dials any other once, and takes it
	// when this sidecar answers there. Default: listen.inbound.
	Advertise string `yaml:"advertise"`
	// Relative capacity, 1 to 1000: an instance of weight 2 gets twice the requests
	// of one of weight 1.
	Weight uint32 `yaml:"weight"`
	// Whether other clusters are told of the service and may call it. A
	// ServiceExport among the gateway's resources says the same.
	Export bool `yaml:"export"`
	// How the program is checked. Default: a TCP connect.
	Health health.Check `yaml:"health"`
	// Bounds on callers' exchanges with the program.
	Timeouts Timeouts `yaml:"timeouts"`
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
