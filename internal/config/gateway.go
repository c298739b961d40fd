package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Gateway is the configuration of a gateway process. What [LoadGateway]
// returns is complete: every default is filled in and every address has a port.
type Gateway struct {
	// This cluster's name. Required.
	Cluster mesh.ClusterName `yaml:"cluster" flag:"this cluster's name"`
	// This gateway's name within its cluster. Default: the host name.
	Name mesh.GatewayName `yaml:"name" flag:"this gateway's name within its cluster"`
	// The host:port that other clusters' gateways dial. Default: the host name and
	// the port of listen.tunnel.
	Advertise string `yaml:"advertise" flag:"host:port that other clusters dial"`
	// The host:port that this cluster's sidecars dial. Default: the host of
	// advertise and the port of listen.mesh.
	MeshAddress string `yaml:"meshAddress" flag:"host:port that this cluster's sidecars dial"`
	// host or host:port of any other gateways; none for the first of a mesh. Port
	// 7443 when left out. Until it has met one of them a gateway is not ready, and
	// calls no service unknown.
	Join []string `yaml:"join" flag:"host:port of any other gateway"`
	// What this gateway takes of other clusters: for each cluster a list of namespaces and
	// services, such as {west: [shop, zoo/lion]}. Of a cluster that is not named it takes what
	// stands under "*", and without that everything that the cluster may offer; [] is nothing.
	// Write the same for every gateway of a cluster.
	Imports mesh.Imports `yaml:"imports"`
	// Who this gateway is.
	Identity Identity `yaml:"identity"`
	// Other trust domains whose clusters are part of the mesh.
	TrustDomains []TrustDomain `yaml:"trustDomains"`
	// The directory of resource files, which is watched. Default: none.
	Resources string `yaml:"resources" flag:"directory of resource files, watched"`
	// What this gateway has from its cluster's API server.
	Kubernetes Kubernetes `yaml:"kubernetes"`
	// Where endpoints of this cluster may be, besides the host that a sidecar calls from, as
	// [10.1.0.0/16]: who answers at another address is asked only there. Default: the
	// private ranges, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10 and fc00::/7.
	EndpointRanges []netip.Prefix `yaml:"endpointRanges"`
	// The directory in which this process keeps what it learned: the catalog, the
	// peers, and what sidecars use. Two gateways may not share one.
	State string `yaml:"state" flag:"directory in which this process keeps what it learned"`
	// Where the gateway listens.
	Listen GatewayListen `yaml:"listen"`
	// How many QUIC connections are kept to every other gateway, 1 to 8.
	Connections int `yaml:"connections" flag:"QUIC connections kept to every other gateway"`
	// How programs without a sidecar call services of the mesh, in Kubernetes.
	Entrance Entrance `yaml:"entrance"`
	// What callers may make this gateway hold.
	Limits GatewayLimits `yaml:"limits"`
	// How long running exchanges may take to finish at shutdown, up to 1h.
	Drain time.Duration `yaml:"drain" flag:"how long running exchanges may take at shutdown"`
	// What is written down of the decisions about others.
	Audit Audit `yaml:"audit"`
	// What is logged, to standard error.
	Log Log `yaml:"log"`
}

// GatewayListen are the addresses that a gateway listens on, as host:port; an
// empty host is every interface.
type GatewayListen struct {
	// UDP: everything between clusters.
	Tunnel string `yaml:"tunnel" flag:"address of the tunnel port (UDP)"`
	// TCP: CONNECT or SNI from this cluster's sidecars.
	Mesh string `yaml:"mesh" flag:"address of the mesh port"`
	// TCP: xDS and registration, gRPC over mutual TLS.
	XDS string `yaml:"xds" flag:"address of the xDS port"`
	// TCP: health, metrics and status. It has no authentication: keep it on loopback.
	Admin string `yaml:"admin" flag:"address of the admin port"`
	// TCP, for Prometheus and probes on other hosts: /metrics, /livez and /readyz and
	// nothing else of the admin port. Default: none.
	Metrics string `yaml:"metrics" flag:"address for /metrics, /livez and /readyz alone"`
	// TCP: Go's profiles, at /debug/pprof/. They tell what is in memory: keep it on
	// loopback. Default: none.
	Profiles string `yaml:"profiles" flag:"address for Go's profiles"`
}

// Entrance is where programs without a sidecar come in.
type Entrance struct {
	// The TCP ports on which this gateway listens for pods without a sidecar, such as
	// 20000-24095: one for each port of each service that some cluster exports, to which the
	// addresses of ServiceImports lead. With it, this cluster's services without a sidecar
	// and without a policy also serve such callers of other clusters, whose gateways call for
	// them. Write the same for every gateway of a cluster. Default: none.
	Ports PortRange `yaml:"ports"`
}

// PortRange are the ports from First to Last; zero: none.
type PortRange struct {
	First, Last uint16
}

// UnmarshalText reads "20000-24095".
func (r *PortRange) UnmarshalText(b []byte) error {
	first, last, ok := strings.Cut(string(b), "-")
	from, err := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if !ok || err != nil || err2 != nil || from == 0 || from > to {
		return fmt.Errorf("ports %q: write the first and the last, such as 20000-24095", b)
	}
	*r = PortRange{uint16(from), uint16(to)}
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (r PortRange) MarshalText() ([]byte, error) {
	if r.First == 0 {
		return nil, nil
	}
	return fmt.Appendf(nil, "%d-%d", r.First, r.Last), nil
}

// GatewayLimits bound what callers may make a gateway hold.
type GatewayLimits struct {
	// Open paths in all: those of this cluster's callers, on the mesh port, and
	// those of other gateways, in tunnels. A quarter is kept for each of the two, and
	// another cluster gets half of what is free for others at most. No more than a third of
	// the file descriptors that the process may have (LimitNOFILE of its unit).
	Paths int `yaml:"paths" flag:"open paths in all, of the mesh port and of tunnels"`
	// Open paths of one source on the mesh port: an IPv4 address, or an IPv6 /64.
	PathsPerSource int `yaml:"pathsPerSource" flag:"open paths of one source address on the mesh port"`
}

// ID returns the gateway's name within the mesh.
func (g *Gateway) ID() mesh.GatewayID { return mesh.GatewayID{Cluster: g.Cluster, Name: g.Name} }
