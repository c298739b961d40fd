package config

import (
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Gateway is the configuration of a gateway process. What [LoadGateway]
// returns is complete: every default is filled in and every address has a port.
type Gateway struct {
	// Cluster is this cluster's name. Required.
	Cluster mesh.ClusterName `yaml:"cluster"`
	// Name is this gateway's name within its cluster. Default: the host name.
	Name mesh.GatewayName `yaml:"name"`
	// Advertise is the host:port that other clusters' gateways dial.
	// Default: the host name and the tunnel's port.
	Advertise string `yaml:"advertise"`
	// MeshAddress is the host:port that this cluster's sidecars dial.
	// Default: Advertise's host and the mesh port.
	MeshAddress string `yaml:"meshAddress"`
	// Join are host:port of other gateways. None for the first gateway of a mesh.
	Join []string `yaml:"join"`
	// Identity says who this gateway is.
	Identity Identity `yaml:"identity"`
	// Resources is the directory of resource files, watched. Empty: none.
	Resources string `yaml:"resources"`
	// State is the directory that this process keeps its memory in: its catalog,
	// the peers and names it has learned. It is claimed with [ClaimState].
	State string `yaml:"state"`
	// Listen are the addresses that the gateway listens on.
	Listen GatewayListen `yaml:"listen"`
	// Connections is how many QUIC connections are kept to every other gateway.
	Connections int `yaml:"connections"`
	// Limits bound what callers may make this gateway hold.
	Limits GatewayLimits `yaml:"limits"`
	// Drain is how long running exchanges may take to finish at shutdown.
	Drain time.Duration `yaml:"drain"`
	// Log says what is logged, to standard error.
	Log Log `yaml:"log"`
}

// GatewayListen are the addresses that a gateway listens on, as host:port; an
// empty host is every interface.
type GatewayListen struct {
	Tunnel string `yaml:"tunnel"` // UDP: everything between clusters
	Mesh   string `yaml:"mesh"`   // TCP: CONNECT or SNI from this cluster's sidecars
	XDS    string `yaml:"xds"`    // TCP: gRPC over mTLS
	Admin  string `yaml:"admin"`  // TCP: health, metrics, status
}

// GatewayLimits bound what callers may make a gateway hold.
type GatewayLimits struct {
	Paths          int `yaml:"paths"`          // open paths on the mesh port, all callers together
	PathsPerSource int `yaml:"pathsPerSource"` // open paths on the mesh port per source address
}

// ID returns the gateway's name within the mesh.
func (g *Gateway) ID() mesh.GatewayID { return mesh.GatewayID{Cluster: g.Cluster, Name: g.Name} }
