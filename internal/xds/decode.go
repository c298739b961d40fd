package xds

import (
	"fmt"
	"net"
	"strconv"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Decode reads a route from the marshalled Cluster and ClusterLoadAssignment that
// [Encode] made of it, and its rules (nil: it has none), or that of a newer gateway: what that says beyond what is
// known here is left out, but for rules, see [DecodeRules]. Endpoints and identities come out sorted. The bytes may
// come from anywhere: what is not such a set is an error.
func Decode(cluster, endpoints, rules []byte) (*mesh.Route, error) {
	r, err := decodeCluster(cluster)
	if err != nil {
		return nil, err
	}
	if err := decodeEndpoints(endpoints, r); err != nil {
		return nil, fmt.Errorf("endpoints of %s: %w", r.Destination, err)
	}
	if rules != nil && NeedsRules(r) {
		r.Rules, err = DecodeRules(r.Destination, rules)
	}
	return r, err
}

func decodeCluster(b []byte) (*mesh.Route, error) {
	c := &clusterv3.Cluster{}
	if err := proto.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	dest, err := mesh.ParseDestinationName(c.GetName())
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if dest.String() != c.GetName() {
		return nil, fmt.Errorf("cluster %q: write %s", c.GetName(), dest)
	}
	r := &mesh.Route{Destination: dest}
	if r.Protocol, err = mesh.ReadProtocol(stringField(c.GetMetadata(), fieldProtocol)); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", dest, err)
	}
	if r.Ports, err = parsePorts(stringField(c.GetMetadata(), fieldPorts)); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", dest, err)
	}
	r.Outside = stringField(c.GetMetadata(), fieldOutside) == "true"
	r.Headless = stringField(c.GetMetadata(), fieldHeadless) == "true"
	if r.Addresses, err = parseAddresses(stringField(c.GetMetadata(), fieldAddress)); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", dest, err)
	}
	for _, m := range c.GetTransportSocketMatches() {
		if len(m.GetMatch().GetFields()) > 0 {
			continue // the plain one
		}
		if r.Identities, err = identitiesOf(m.GetTransportSocket()); err != nil {
			return nil, fmt.Errorf("cluster %s: %w", dest, err)
		}
		return r, nil
	}
	return nil, fmt.Errorf("cluster %s: no TLS transport socket", dest)
}

func decodeEndpoints(b []byte, r *mesh.Route) error {
	a := &endpointv3.ClusterLoadAssignment{}
	if err := proto.Unmarshal(b, a); err != nil {
		return err
	}
	if a.GetClusterName() != r.Destination.String() {
		return fmt.Errorf("they are of %q", a.GetClusterName())
	}
	for _, g := range a.GetEndpoints() {
		var to *[]mesh.Endpoint
		switch g.GetPriority() {
		case priorityLocal:
			to = &r.Local
		case priorityGateways:
			to = &r.Gateways
		default:
			continue // a way that only newer sidecars know
		}
		for _, e := range g.GetLbEndpoints() {
			if e.GetEndpoint().GetAddress().GetSocketAddress() == nil {
				continue // another kind of address
			}
			ep, err := decodeEndpoint(e)
			if err != nil {
				return err
			}
			*to = append(*to, ep)
		}
	}
	return nil
}

func decodeEndpoint(e *endpointv3.LbEndpoint) (mesh.Endpoint, error) {
	addr := e.GetEndpoint().GetAddress().GetSocketAddress()
	ep := mesh.Endpoint{
		Instance: stringField(e.GetMetadata(), fieldInstance),
		Address:  net.JoinHostPort(addr.GetAddress(), strconv.FormatUint(uint64(addr.GetPortValue()), 10)),
		Ready:    e.GetHealthStatus() == corev3.HealthStatus_HEALTHY,
		Weight:   max(e.GetLoadBalancingWeight().GetValue(), 1),
		Identity: stringField(e.GetMetadata(), fieldIdentity),
	}
	if _, _, err := splitAddress(ep.Address); err != nil {
		return mesh.Endpoint{}, fmt.Errorf("endpoint %q: %w", ep.Instance, err)
	}
	if target := stringField(e.GetMetadata(), fieldTarget); target != "" {
		n, err := strconv.ParseUint(target, 10, 16)
		if err != nil || n == 0 {
			return mesh.Endpoint{}, fmt.Errorf("endpoint %q: target %q: must be 1 to 65535", ep.Instance, target)
		}
		ep.Target = uint16(n)
	}
	return ep, nil
}

// stringField reads a field of our metadata; empty when it is not there.
func stringField(m *corev3.Metadata, key string) string {
	return m.GetFilterMetadata()[metadataKey].GetFields()[key].GetStringValue()
}
