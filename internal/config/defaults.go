package config

import (
	"os"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hostport"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// The ports that stand in for those left out.
const (
	TunnelPort       = 7443  // gateway, UDP: everything between clusters
	MeshPort         = 15443 // gateway: this cluster's sidecars
	XDSPort          = 15012 // gateway: xDS
	GatewayAdminPort = 15000 // gateway, loopback
	InboundPort      = 15008 // sidecar: mTLS for the program
	SidecarAdminPort = 15020 // sidecar, loopback
	CAPort           = 15010 // CA: certificates
	CAAdminPort      = 15014 // CA, loopback
	OutboundPort     = 15001 // sidecar, loopback: captured connections
	DNSPort          = 15053 // sidecar, loopback: captured DNS questions
	PodInboundPort   = 15006 // sidecar of a pod: callers of the programs' own ports
	PodMetricsPort   = 15021 // sidecar of a pod: probes and metrics
	ServicePort      = 80    // of services and upstreams
)

// PodUID is the user, and the group, as which the sidecar of a pod runs: what it sends is
// not captured. No program of the pod may run as that user.
const PodUID = 15000

const (
	defaultIdentityDir = "/etc/isthmus/pki"
	defaultState       = "/var/lib/isthmus"
	// defaultDrain is less than the 30 s after which Kubernetes kills.
	defaultDrain = 10 * time.Second
	// maxDrain: who wants longer wants no end.
	maxDrain = time.Hour

	// defaultConnections lets two cores work for one peer; quic-go serves a
	// connection with one goroutine.
	defaultConnections = 2
	maxConnections     = 8 // as internal/tunnel: both ends dial, and 16 is all that is held to one peer

	// defaultPathsPerSource is far above what one sidecar's pools hold and low
	// enough that one neighbour cannot take the gateway's file descriptors.
	defaultPathsPerSource = 1024
	// defaultPaths is about 1 GiB of relay buffers when all of them are busy.
	defaultPaths = 16384
	maxPaths     = 1 << 20

	defaultCATTL = 24 * time.Hour
	minCATTL     = 10 * time.Second
	maxCATTL     = 30 * 24 * time.Hour // who wants longer wants 'isthmus pki'

	// maxRoots bounds the fingerprints of a first trust: a root and the one that replaces it.
	maxRoots = 8

	// maxListed bounds lists of addresses and of upstreams.
	maxListed = 1000
)

// gatewayDefaults are what a file need not say. What depends on other values
// (advertise, meshAddress) is filled in by complete.
func gatewayDefaults() *Gateway {
	return &Gateway{
		Name:     mesh.GatewayName(hostLabel()),
		Identity: Identity{Dir: defaultIdentityDir},
		State:    defaultState,
		Listen: GatewayListen{
			Tunnel: ":7443",
			Mesh:   ":15443",
			XDS:    ":15012",
			Admin:  "127.0.0.1:15000",
		},
		Connections: defaultConnections,
		Limits:      GatewayLimits{Paths: defaultPaths, PathsPerSource: defaultPathsPerSource},
		Drain:       defaultDrain,
		Audit:       Audit{Calls: AuditRefused},
		Log:         Log{Format: LogText},
	}
}

// sidecarDefaults are what a file need not say. Its Service holds the defaults
// of one and is dropped when the file has none.
func sidecarDefaults() *Sidecar {
	return &Sidecar{
		Identity: Identity{Dir: defaultIdentityDir},
		Service: &Service{
			Port:     ServicePort,
			Protocol: mesh.TCP,
			Instance: hostName(),
			Weight:   1,
		},
		Interception: Interception{Mode: Explicit, OnFailure: FailClosed, Acceleration: AccelerationOff, OutboundPort: OutboundPort, DNSPort: DNSPort},
		State:        defaultState,
		Listen: SidecarListen{
			Inbound: ":15008",
			Admin:   "127.0.0.1:15020",
		},
		Drain: defaultDrain,
		Audit: Audit{Calls: AuditRefused},
		Log:   Log{Format: LogText},
	}
}

// caDefaults are what a file need not say.
func caDefaults() *CA {
	return &CA{
		Name:       hostLabel(),
		TTL:        defaultCATTL,
		Kubernetes: &CAKubernetes{Audience: "isthmus"},
		State:      defaultState,
		Listen: CAListen{
			GRPC:  ":15010",
			Admin: "127.0.0.1:15014",
		},
		Drain: defaultDrain,
		Audit: Audit{Calls: AuditRefused},
		Log:   Log{Format: LogText},
	}
}

// hostName returns the host's name, or "" when it has none that can be used.
func hostName() string {
	name, err := os.Hostname()
	if err != nil || hostport.CheckName(name) != nil {
		return ""
	}
	return name
}

// hostLabel returns the first label of the host's name in lower case, or ""
// when that is not an RFC 1123 label.
func hostLabel() string {
	label, _, _ := strings.Cut(strings.ToLower(hostName()), ".")
	if mesh.CheckLabel(label) != nil {
		return ""
	}
	return label
}
