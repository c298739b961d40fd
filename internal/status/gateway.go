package status

import (
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Gateway is what a gateway answers.
type Gateway struct {
	Self        mesh.GatewayID  `json:"self"`
	Version     string          `json:"version"`
	Ready       bool            `json:"ready"`
	Pending     []Condition     `json:"pending,omitempty"` // of readiness
	Uptime      float64         `json:"uptime_seconds"`
	Certificate Certificate     `json:"certificate"`
	Gateways    []Peer          `json:"gateways"`
	Join        []JoinTarget    `json:"join,omitempty"`
	Services    []Service       `json:"services"`
	Conflicts   []Conflict      `json:"conflicts,omitempty"`
	Routes      []BadRoute      `json:"bad_routes,omitempty"` // HTTPRoutes and GRPCRoutes that are not in force as they are written
	Unjudged    []UnjudgedRule  `json:"unjudged_rules,omitempty"`
	Origins     []Origin        `json:"origins"`
	Trust       []Trust         `json:"trust"`
	Faults      []ResourceFault `json:"resource_faults,omitempty"`
	Kubernetes  *Kubernetes     `json:"kubernetes,omitempty"`               // nil: it has no API server
	Objects     []ResourceFault `json:"kubernetes_object_faults,omitempty"` // of the API server
	// NothingImported are the clusters of which nothing that they offer is among what imports
	// names of them.
	NothingImported []mesh.ClusterName `json:"nothing_imported,omitempty"`
	// NoAddress says why other clusters are not told what to dial to reach this gateway;
	// empty: they are.
	NoAddress string `json:"no_address,omitempty"`
	// LeftOut are the exported services that other clusters are not told of.
	LeftOut []mesh.ServiceName `json:"left_out,omitempty"`
	// Refused are the registrations that were refused in the last minute.
	Refused    []RefusedRegistration `json:"refused_registrations,omitempty"`
	StateError string                `json:"state_error,omitempty"` // why what it knows is not kept on disk
	Reload     *Reload               `json:"reload,omitempty"`      // the last one
}

// Peer is one gateway of the mesh as the answering one sees it.
type Peer struct {
	ID          mesh.GatewayID `json:"id"`
	Address     string         `json:"address"`
	Tunnel      string         `json:"tunnel"`            // self, up, down
	Gossip      string         `json:"gossip"`            // alive, dead
	Hearsay     bool           `json:"hearsay,omitempty"` // only gossip tells of it: no tunnel has led to it yet
	RTT         float64        `json:"rtt_ms"`
	Connections int            `json:"connections"`
	Streams     int            `json:"streams"`
	Since       time.Time      `json:"since,omitzero"` // of the tunnel's state
	LastError   string         `json:"last_error,omitempty"`
	PacketSize  int            `json:"packet_size,omitempty"` // bytes of UDP payload
	Refused     string         `json:"refused,omitempty"`     // why nothing is sent to it: its cluster has the name of an earlier one
	Revoked     bool           `json:"revoked,omitempty"`     // by name, or its cluster is: nothing is sent to it
	MTUReduced  bool           `json:"mtu_reduced,omitempty"` // larger packets passed once, and were lost later
}

// JoinTarget is a configured address of another gateway.
type JoinTarget struct {
	Address   string         `json:"address"`
	Gateway   mesh.GatewayID `json:"gateway,omitzero"` // who answered there
	LastError string         `json:"last_error,omitempty"`
}

// Service is one service of the mesh, with what each cluster has of it.
type Service struct {
	Service  mesh.ServiceName `json:"service"`
	Clusters []ClusterService `json:"clusters"`
}

// ClusterService is one service port in one cluster.
type ClusterService struct {
	Cluster  mesh.ClusterName `json:"cluster"`
	Port     uint16           `json:"port"`
	Protocol mesh.Protocol    `json:"protocol"`
	Ready    uint32           `json:"ready"`
	Total    uint32           `json:"total"`
	// Reachable is true for the own cluster and for those with a live tunnel.
	Reachable bool `json:"reachable"`
	Exported  bool `json:"exported"`
	// Plain: a gateway of the cluster answers, for endpoints without an identity.
	Plain bool `json:"plain,omitempty"`
	// LeftOut says why the cluster gets nothing, unless a caller names it.
	LeftOut string `json:"left_out,omitempty"`
}

// BadRoute is a route of which something is wrong with one of its parents.
type BadRoute struct {
	Route  string           `json:"route"` // "HTTPRoute shop/orders"
	Parent mesh.ServiceName `json:"parent"`
	Error  string           `json:"error"`
}

// Conflict is a port of a service that clusters declare with different protocols.
type Conflict struct {
	// InForce is the cluster whose word counts here. Those that say otherwise are left
	// out for the port, unless a caller names them.
	InForce   mesh.ClusterName                   `json:"in_force"`
	Service   mesh.ServiceName                   `json:"service"`
	Port      uint16                             `json:"port"`
	Protocols map[mesh.ClusterName]mesh.Protocol `json:"protocols"`
}

// UnjudgedRule is a rule of a policy that asks for more than this gateway sees of the
// calls of plain endpoints: it denies, or does not allow.
type UnjudgedRule struct {
	Service mesh.ServiceName `json:"service"`
	Policy  string           `json:"policy"`
	Rule    int              `json:"rule"` // in spec.rules
	Action  string           `json:"action"`
}

// Origin is the last applied catalog version of one origin.
type Origin struct {
	Origin  mesh.GatewayID `json:"origin"`
	Epoch   uint64         `json:"epoch"`
	Seq     uint64         `json:"seq"`
	Digest  string         `json:"digest"`
	Records int            `json:"records"`
	Age     float64        `json:"age_seconds"` // since it was last confirmed
	Stale   bool           `json:"stale"`       // no live tunnel to its cluster confirms it
	// LeftOut is what it offers and its cluster may not, so that it counts nowhere; the first
	// ones of LeftOutTotal.
	LeftOut      []LeftOut `json:"left_out,omitempty"`
	LeftOutTotal int       `json:"left_out_total,omitempty"`
	NotImported  int       `json:"not_imported,omitempty"` // services that this gateway does not take
}

// LeftOut is a service that a gateway offers and its cluster may not.
type LeftOut struct {
	Service mesh.ServiceName `json:"service"`
	Why     string           `json:"why"`
}

// ResourceFault is a resource file, or an object of the API server, that could not be
// read; the last good content of it is in force.
type ResourceFault struct {
	File  string `json:"file"`
	Error string `json:"error"`
}

// RefusedRegistration is a sidecar that offers to serve and may not. What it wrote is
// as it wrote it.
type RefusedRegistration struct {
	Peer     string `json:"peer"` // its SPIFFE ID
	Service  string `json:"service"`
	Instance string `json:"instance"`
	Error    string `json:"error"`
}
