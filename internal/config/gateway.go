package config

import (
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Gateway is the configuration of a gateway process. What [LoadGateway]
// returns is complete: every default is filled in and every address has a port.
type Gateway struct {
	// Cluster is this cluster's name. Required.
	Cluster mesh.ClusterName `yaml:"cluster" flag:"this cluster's name"`
	// Name is this gateway's name within its cluster. Default: the host name.
	Name mesh.GatewayName `yaml:"name" flag:"this gateway's name within its cluster"`
	// Advertise is the host:port that other clusters' gateways dial.
	// Default: the host name and the tunnel's port.
	Advertise string `yaml:"advertise" flag:"host:port that other clusters dial"`
	// MeshAddress is the host:port that this cluster's sidecars dial.
	// Default: Advertise's host and the mesh port.
	MeshAddress string `yaml:"meshAddress" flag:"host:port that this cluster's sidecars dial"`
	// Join are host:port of other gateways. None for the first gateway of a mesh.
	Join []string `yaml:"join" flag:"host:port of any other gateway"`
	// Identity says who this gateway is.
	Identity Identity `yaml:"identity"`
	// Resources is the directory of resource files, watched. Empty: none.
	Resources string `yaml:"resources" flag:"directory of resource files, watched"`
	// State is the directory that this process keeps its memory in: its catalog,
	// the peers and names it has learned. It is claimed with [ClaimState].
	State string `yaml:"state" flag:"directory that this process keeps its memory in"`
	// Listen are the addresses that the gateway listens on.
	Listen GatewayListen `yaml:"listen"`
	// Connections is how many QUIC connections are kept to every other gateway.
	Connections int `yaml:"connections" flag:"QUIC connections kept to every other gateway"`
	// Limits bound what callers may make this gateway hold.
	Limits GatewayLimits `yaml:"limits"`
	// Drain is how long running exchanges may take to finish at shutdown.
	Drain time.Duration `yaml:"drain" flag:"how long running exchanges may take at shutdown"`
	// Log says what is logged, to standard error.
	Log Log `yaml:"log"`
}

// GatewayListen are the addresses that a gateway listens on, as host:port; an
// empty host is every interface.
type GatewayListen struct {
	Tunnel string `yaml:"tunnel" flag:"address of the tunnel port (UDP)"` // UDP: everything between clusters
	Mesh   string `yaml:"mesh" flag:"address of the mesh port"`           // TCP: CONNECT or SNI from this cluster's sidecars
	XDS    string `yaml:"xds" flag:"address of the xDS port"`             // TCP: gRPC over mTLS
	Admin  string `yaml:"admin" flag:"address of the admin port"`         // TCP: health, metrics, status
}

// GatewayLimits bound what callers may make a gateway hold.
type GatewayLimits struct {
	Paths          int `yaml:"paths" flag:"open paths on the mesh port"`                             // open paths on the mesh port, all callers together
	PathsPerSource int `yaml:"pathsPerSource" flag:"open paths on the mesh port per source address"` // open paths on the mesh port per source address
}

// ID returns the gateway's name within the mesh.
func (g *Gateway) ID() mesh.GatewayID { return mesh.GatewayID{Cluster: g.Cluster, Name: g.Name} }
