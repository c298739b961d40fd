package xds

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// The types that a route is made of.
const (
	ClusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
)

// Metadata of ours, and Envoy's key for choosing a transport socket.
const (
	metadataKey = "isthmus"
	matchKey    = "envoy.transport_socket_match"

	fieldProtocol = "protocol" // of a Cluster: see [mesh.Protocol]
	fieldOutside  = "outside"  // of the same, "true": Kubernetes' name of it leads elsewhere
	fieldHeadless = "headless" // of the same, "true": that name stands for each instance
	fieldAddress  = "address"  // of the same: what programs dial in place of the name, "10.43.0.5 fd00::5"
	fieldPorts    = "ports"    // of a Cluster that names a service without a port: "80/http 443/tcp"
	fieldInstance = "instance" // of an endpoint
	fieldIdentity = "identity" // of an endpoint: the SPIFFE ID that ends its TLS
	fieldTarget   = "target"   // of an endpoint: the port at which programs dial it by itself
	fieldVia      = "via"      // of an endpoint: viaGateway
	fieldPlain    = "plain"    // under matchKey: "true" for an endpoint without TLS

	viaGateway = "gateway"
)

// The EDS priorities of a route's two groups of endpoints.
const (
	priorityLocal    = 0
	priorityGateways = 1
)

// connectTimeout is for Envoy; our sidecar has its own.
const connectTimeout = time.Second

// hostNames is the client feature by which a client of ours says that an endpoint's
// address may be a host name, which it resolves itself. Envoy refuses such a one.
const hostNames = "isthmus.host-names"

// Node is how a client of ours introduces itself. But for what it can take, ours
// takes its word for nothing; the rest is for other people's servers and their logs.
func Node(id string) *corev3.Node {
	return &corev3.Node{Id: id, UserAgentName: "isthmus", ClientFeatures: []string{hostNames}}
}

// TakesHostNames reports whether a client takes endpoints whose address is a host
// name.
func TakesHostNames(n *corev3.Node) bool { return slices.Contains(n.GetClientFeatures(), hostNames) }

// Encoded is a route as it goes on the wire, named by its destination. The version
// of each resource is a hash of its content.
type Encoded struct {
	Cluster   *discoveryv3.Resource
	Endpoints *discoveryv3.Resource
	Rules     *discoveryv3.Resource            // nil where nobody speaks HTTP
	Own       map[string]*discoveryv3.Resource // the rules for callers of a namespace, in place of Rules
}

// Encode translates r. Routes that differ only in the order of their endpoints
// and identities give the same bytes.
func Encode(r *mesh.Route) (e Encoded, err error) {
	if _, err := mesh.ParseProtocol(string(r.Protocol)); err != nil {
		return Encoded{}, err
	}
	if e.Cluster, err = encodeCluster(r); err != nil {
		return Encoded{}, err
	}
	if e.Endpoints, err = EncodeEndpoints(r); err != nil {
		return Encoded{}, err
	}
	if !NeedsRules(r) {
		return e, nil
	}
	if e.Rules, err = encodeRules(r.Destination, r.Rules); err != nil {
		return Encoded{}, err
	}
	for namespace, rules := range r.ByNamespace {
		own, err := encodeRules(r.Destination, rules)
		if err != nil {
			return Encoded{}, err
		}
		if e.Own == nil {
			e.Own = make(map[string]*discoveryv3.Resource, len(r.ByNamespace))
		}
		e.Own[namespace] = own
	}
	return e, nil
}

func encodeCluster(r *mesh.Route) (*discoveryv3.Resource, error) {
	tls, err := tlsSocket(r)
	if err != nil {
		return nil, err
	}
	raw, err := rawSocket()
	if err != nil {
		return nil, err
	}
	options, err := httpOptions(r.Protocol)
	if err != nil {
		return nil, fmt.Errorf("encode the protocol of %s: %w", r.Destination, err)
	}
	ours := fields(fieldProtocol, string(r.Protocol))
	if r.Outside {
		ours.Fields[fieldOutside] = structpb.NewStringValue("true")
	}
	if r.Headless {
		ours.Fields[fieldHeadless] = structpb.NewStringValue("true")
	}
	if len(r.Addresses) > 0 {
		ours.Fields[fieldAddress] = structpb.NewStringValue(formatAddresses(r.Addresses))
	}
	if len(r.Ports) > 0 {
		ours.Fields[fieldPorts] = structpb.NewStringValue(formatPorts(r.Ports))
	}
	return resource(r.Destination.String(), ClusterType, &clusterv3.Cluster{
		Name:                 r.Destination.String(),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{
			EdsConfig: &corev3.ConfigSource{
				ResourceApiVersion:    corev3.ApiVersion_V3,
				ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
			},
		},
		ConnectTimeout:                durationpb.New(connectTimeout),
		LbPolicy:                      clusterv3.Cluster_LEAST_REQUEST,
		TypedExtensionProtocolOptions: options,
		CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{
			// Send where it is healthy, however little that is.
			HealthyPanicThreshold: &typev3.Percent{Value: 0},
		},
		TransportSocketMatches: []*clusterv3.Cluster_TransportSocketMatch{
			{Name: "plain", Match: fields(fieldPlain, "true"), TransportSocket: raw},
			{Name: "mtls", Match: &structpb.Struct{}, TransportSocket: tls},
		},
		Metadata: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
			metadataKey: ours,
		}},
	})
}

// EncodeEndpoints is the half of [Encode] that depends on the endpoints.
func EncodeEndpoints(r *mesh.Route) (*discoveryv3.Resource, error) {
	local, err := group(priorityLocal, r.Local)
	if err != nil {
		return nil, err
	}
	gateways, err := group(priorityGateways, r.Gateways)
	if err != nil {
		return nil, err
	}
	return resource(r.Destination.String(), EndpointType, &endpointv3.ClusterLoadAssignment{
		ClusterName: r.Destination.String(),
		// Both are always there: Envoy refuses a gap in the priorities.
		Endpoints: []*endpointv3.LocalityLbEndpoints{local, gateways},
	})
}

// group translates the endpoints of one priority.
func group(priority uint32, from []mesh.Endpoint) (*endpointv3.LocalityLbEndpoints, error) {
	from = slices.Clone(from)
	slices.SortFunc(from, compareEndpoints)
	g := &endpointv3.LocalityLbEndpoints{
		Locality: &corev3.Locality{},
		Priority: priority,
	}
	for _, e := range from {
		host, port, err := splitAddress(e.Address)
		if err != nil {
			return nil, fmt.Errorf("endpoint %s: %w", e.Instance, err)
		}
		status := corev3.HealthStatus_UNHEALTHY
		if e.Ready {
			status = corev3.HealthStatus_HEALTHY
		}
		ours := fields(fieldInstance, e.Instance)
		metadata := &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{metadataKey: ours}}
		if e.Identity != "" {
			ours.Fields[fieldIdentity] = structpb.NewStringValue(e.Identity)
		}
		if e.Target != 0 {
			ours.Fields[fieldTarget] = structpb.NewStringValue(strconv.Itoa(int(e.Target)))
		}
		switch {
		case priority == priorityGateways:
			ours.Fields[fieldVia] = structpb.NewStringValue(viaGateway)
		case e.Identity == "":
			metadata.FilterMetadata[matchKey] = fields(fieldPlain, "true")
		}
		g.LbEndpoints = append(g.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
					Address:       host,
					PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
				}}},
			}},
			HealthStatus:        status,
			LoadBalancingWeight: wrapperspb.UInt32(max(e.Weight, 1)),
			Metadata:            metadata,
		})
	}
	return g, nil
}

func compareEndpoints(a, b mesh.Endpoint) int {
	return cmp.Or(cmp.Compare(a.Instance, b.Instance), cmp.Compare(a.Address, b.Address))
}

// splitAddress reads host:port.
func splitAddress(address string) (host string, port uint16, err error) {
	host, p, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return "", 0, fmt.Errorf("address %q: must be host:port", address)
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("address %q: port must be 1 to 65535", address)
	}
	return host, uint16(n), nil
}

// fields is a Struct with one string field.
func fields(key, value string) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{key: structpb.NewStringValue(value)}}
}

// resource marshals m, deterministically, under a version made from its bytes.
func resource(name, typeURL string, m proto.Message) (*discoveryv3.Resource, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", typeURL, err)
	}
	sum := sha256.Sum256(b)
	return &discoveryv3.Resource{
		Name:     name,
		Version:  hex.EncodeToString(sum[:8]),
		Resource: &anypb.Any{TypeUrl: typeURL, Value: b},
	}, nil
}
