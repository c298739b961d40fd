package admin

import (
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// GatewayStatus is what a gateway answers on /status, and `isthmus status
// -o json` prints. Fields are only ever added.
type GatewayStatus struct {
	Self     mesh.GatewayID   `json:"self"`
	Ready    bool             `json:"ready"`
	Pending  []string         `json:"pending,omitempty"` // readiness tasks not done
	Uptime   float64          `json:"uptime_seconds"`
	Gateways []GatewayPeer    `json:"gateways"`
	Join     []JoinTarget     `json:"join,omitempty"`
	Services []ServiceStatus  `json:"services"`
	Origins  []OriginStatus   `json:"origins"`
	Faults   []ResourceStatus `json:"resource_faults,omitempty"`
}

// GatewayPeer is one gateway of the mesh as the answering one sees it.
type GatewayPeer struct {
	ID          mesh.GatewayID `json:"id"`
	Address     string         `json:"address"`
	Tunnel      string         `json:"tunnel"` // self, up, down
	Gossip      string         `json:"gossip"` // alive, dead, left
	RTT         float64        `json:"rtt_ms"`
	Connections int            `json:"connections"`
	Streams     int            `json:"streams"`
	Since       time.Time      `json:"since,omitzero"` // of the tunnel's state
	LastError   string         `json:"last_error,omitempty"`
}

// JoinTarget is a configured address of another gateway.
type JoinTarget struct {
	Address   string         `json:"address"`
	Gateway   mesh.GatewayID `json:"gateway,omitzero"` // who answered there
	LastError string         `json:"last_error,omitempty"`
}

// ServiceStatus is one service of the mesh, with what each cluster has of it.
type ServiceStatus struct {
	Service  mesh.ServiceName       `json:"service"`
	Clusters []ClusterServiceStatus `json:"clusters"`
}

// ClusterServiceStatus is one service port in one cluster.
type ClusterServiceStatus struct {
	Cluster  mesh.ClusterName `json:"cluster"`
	Port     uint16           `json:"port"`
	Protocol mesh.Protocol    `json:"protocol"`
	Ready    uint32           `json:"ready"`
	Total    uint32           `json:"total"`
	// Reachable is true for the own cluster and for those with a live tunnel.
	Reachable bool `json:"reachable"`
	Exported  bool `json:"exported"`
}

// OriginStatus is the last applied catalog version of one origin.
type OriginStatus struct {
	Origin  mesh.GatewayID `json:"origin"`
	Epoch   uint64         `json:"epoch"`
	Seq     uint64         `json:"seq"`
	Digest  string         `json:"digest"`
	Records int            `json:"records"`
	Age     float64        `json:"age_seconds"` // since it was last confirmed
	Stale   bool           `json:"stale"`       // no live tunnel to its cluster confirms it
}

// ResourceStatus is a resource file that could not be read; the last good
// content of it is in force.
type ResourceStatus struct {
	File  string `json:"file"`
	Error string `json:"error"`
}

// SidecarStatus is what a sidecar answers on /status.
type SidecarStatus struct {
	Identity  string               `json:"identity"`
	Ready     bool                 `json:"ready"`
	Pending   []string             `json:"pending,omitempty"`
	Uptime    float64              `json:"uptime_seconds"`
	Gateways  []SidecarGateway     `json:"gateways"`
	Upstreams []SidecarUpstream    `json:"upstreams"`
	Service   *SidecarRegistration `json:"service,omitempty"`

	Interception SidecarInterception `json:"interception"`
}

// SidecarInterception is how the program's connections come to the sidecar.
type SidecarInterception struct {
	Mode         string `json:"mode"` // never auto
	Name         string `json:"name,omitempty"`
	Cgroup       string `json:"cgroup,omitempty"`
	OnFailure    string `json:"on_failure,omitempty"`
	Inbound      string `json:"inbound,omitempty"`      // with mode ebpf
	Accelerating bool   `json:"accelerating,omitempty"` // as configured, and the kernel passed the test
}

// SidecarGateway is one configured gateway of a sidecar.
type SidecarGateway struct {
	Address    string `json:"address"`
	XDS        bool   `json:"xds"`        // routes come from this one
	Registered bool   `json:"registered"` // it knows this sidecar's service
	LastError  string `json:"last_error,omitempty"`
}

// SidecarUpstream is one explicit listener of a sidecar and where it leads.
type SidecarUpstream struct {
	Listen      string           `json:"listen"`
	Destination mesh.Destination `json:"destination"`
	State       string           `json:"state"` // known, absent, pending
	Local       []SidecarHost    `json:"local"`
	Gateways    []SidecarHost    `json:"gateways"`
}

// SidecarHost is one host that a sidecar may dial.
type SidecarHost struct {
	Instance   string  `json:"instance,omitempty"` // empty for a gateway
	Address    string  `json:"address"`
	Ready      bool    `json:"ready"`                 // as the control plane says
	Active     int64   `json:"active"`                // requests and TCP connections that run
	LatencyMS  float64 `json:"latency_ms"`            // moving average, 0: unknown
	EjectedFor float64 `json:"ejected_for,omitempty"` // seconds for which the sidecar avoids it
	LastError  string  `json:"last_error,omitempty"`
}

// SidecarRegistration is the service beside a sidecar.
type SidecarRegistration struct {
	Service mesh.ServiceName `json:"service"`
	Port    uint16           `json:"port"`
	Target  string           `json:"target"`
	Ready   bool             `json:"ready"`
}
