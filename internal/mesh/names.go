package mesh

import (
	"cmp"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Domain is the DNS suffix of mesh names: orders.shop.mesh.
const Domain = "mesh"

// clustersetDomain is the suffix that the Kubernetes Multi-Cluster Services API
// gives to names that mean every cluster (KEP-1645).
const clustersetDomain = "svc.clusterset.local"

// ClusterName names a failure domain with its own gateways. It is an RFC 1123 label.
type ClusterName string

// GatewayName names a gateway within its cluster. It is an RFC 1123 label.
type GatewayName string

// GatewayID names a gateway within the mesh, and the origin of catalog records.
type GatewayID struct {
	Cluster ClusterName
	Name    GatewayName
}

// String returns "cluster/name", the form that [ParseGatewayID] reads.
func (g GatewayID) String() string { return string(g.Cluster) + "/" + string(g.Name) }

// Compare orders gateways by cluster, then name.
func (g GatewayID) Compare(o GatewayID) int {
	return cmp.Or(cmp.Compare(g.Cluster, o.Cluster), cmp.Compare(g.Name, o.Name))
}

// IsZero reports whether g names no gateway.
func (g GatewayID) IsZero() bool { return g == GatewayID{} }

// MarshalText makes a GatewayID usable as a JSON string and map key.
func (g GatewayID) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText reads the form that MarshalText writes.
func (g *GatewayID) UnmarshalText(b []byte) error {
	id, err := ParseGatewayID(string(b))
	*g = id
	return err
}

// ParseGatewayID reads "cluster/name".
func ParseGatewayID(s string) (GatewayID, error) {
	cluster, name, ok := strings.Cut(s, "/")
	if !ok {
		return GatewayID{}, fmt.Errorf("gateway %q: write cluster/name", s)
	}
	if err := CheckLabel(cluster); err != nil {
		return GatewayID{}, fmt.Errorf("gateway %q: cluster: %w", s, err)
	}
	if err := CheckLabel(name); err != nil {
		return GatewayID{}, fmt.Errorf("gateway %q: name: %w", s, err)
	}
	return GatewayID{ClusterName(cluster), GatewayName(name)}, nil
}

// ServiceName names a service: namespace/name, both RFC 1123 labels.
type ServiceName struct {
	Namespace string
	Name      string
}

// String returns "namespace/name", the form that [ParseServiceName] reads.
func (s ServiceName) String() string { return s.Namespace + "/" + s.Name }

// Host returns the service's mesh host name: orders.shop.mesh for shop/orders.
// It is the SNI of every end-to-end TLS connection to the service.
func (s ServiceName) Host() string { return s.Name + "." + s.Namespace + "." + Domain }

// MarshalText makes a ServiceName usable as a JSON string and map key.
func (s ServiceName) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the form that MarshalText writes.
func (s *ServiceName) UnmarshalText(b []byte) error {
	n, err := ParseServiceName(string(b))
	*s = n
	return err
}

// Compare orders service names by namespace, then name.
func (s ServiceName) Compare(o ServiceName) int {
	return cmp.Or(cmp.Compare(s.Namespace, o.Namespace), cmp.Compare(s.Name, o.Name))
}

// ParseServiceName reads "namespace/name".
func ParseServiceName(s string) (ServiceName, error) {
	ns, name, ok := strings.Cut(s, "/")
	if !ok {
		example := "shop/orders"
		if CheckLabel(s) == nil {
			example = "shop/" + s
		}
		return ServiceName{}, fmt.Errorf("service %q: write namespace/name, such as %s", s, example)
	}
	if err := CheckLabel(ns); err != nil {
		return ServiceName{}, fmt.Errorf("service %q: namespace: %w", s, err)
	}
	if err := CheckLabel(name); err != nil {
		return ServiceName{}, fmt.Errorf("service %q: name: %w", s, err)
	}
	return ServiceName{ns, name}, nil
}

// Destination is what a caller names: a service's port, in every cluster that
// exports it or, when Cluster is set, in that one. With Port 0 it names the
// service itself, as a DNS question does.
type Destination struct {
	Service ServiceName
	Port    uint16
	Cluster ClusterName // empty: any cluster
}

// Host returns the mesh host name without the port: orders.shop.mesh, or
// orders.shop.west.mesh when the cluster is pinned.
func (d Destination) Host() string {
	if d.Cluster == "" {
		return d.Service.Host()
	}
	return d.Service.Name + "." + d.Service.Namespace + "." + string(d.Cluster) + "." + Domain
}

// String returns the authority form "orders.shop.mesh:80", or the host alone
// when Port is 0: the target of a CONNECT and the name of the destination's xDS
// resources. [ParseDestinationName] reads it.
func (d Destination) String() string {
	if d.Port == 0 {
		return d.Host()
	}
	return net.JoinHostPort(d.Host(), strconv.Itoa(int(d.Port)))
}

// ServerName returns the server name (SNI) by which a caller without CONNECT asks
// for d: "_81.orders.shop.mesh", or the host alone when Port is 0. No service can
// be called _81. [ParseServerName] reads it.
func (d Destination) ServerName() string {
	if d.Port == 0 {
		return d.Host()
	}
	return "_" + strconv.Itoa(int(d.Port)) + "." + d.Host()
}

// ParseServerName reads a server name (SNI): a mesh host name, with _port in front
// of it for a port other than the service's first. See [ParseHost] for the forms of
// the name.
func ParseServerName(name string) (Destination, error) {
	label, host, _ := strings.Cut(name, ".")
	port, ok := strings.CutPrefix(label, "_")
	if !ok {
		return ParseHost(name)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || port[0] == '0' {
		return Destination{}, fmt.Errorf("server name %q: write _port.service.namespace.%s, with a port from 1 to 65535", name, Domain)
	}
	d, err := ParseHost(host)
	if err != nil {
		return Destination{}, err
	}
	d.Port = uint16(n)
	return d, nil
}

// MarshalText makes a Destination usable as a JSON string and map key.
func (d Destination) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the form that MarshalText writes.
func (d *Destination) UnmarshalText(b []byte) error {
	p, err := ParseDestinationName(string(b))
	*d = p
	return err
}

// ParseDestinationName reads what [Destination.String] writes: an authority, or
// a host without a port.
func ParseDestinationName(name string) (Destination, error) {
	if strings.Contains(name, ":") {
		return ParseDestination(name)
	}
	return ParseHost(name)
}

// ParseDestination reads an authority, "orders.shop.mesh:80". The host is
// case-insensitive and may end with a dot. See [ParseHost] for its forms.
func ParseDestination(authority string) (Destination, error) {
	host, port, err := net.SplitHostPort(authority)
	if err != nil {
		return Destination{}, fmt.Errorf("destination %q: write service.namespace.%s:port", authority, Domain)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return Destination{}, fmt.Errorf("destination %q: port must be 1 to 65535", authority)
	}
	d, err := ParseHost(host)
	if err != nil {
		return Destination{}, err
	}
	d.Port = uint16(n)
	return d, nil
}

// ParseHost reads a mesh host name: service.namespace.mesh,
// service.namespace.cluster.mesh or service.namespace.svc.clusterset.local.
// The Port of the result is 0, which stands for the service's first port.
func ParseHost(host string) (Destination, error) {
	bad := func() (Destination, error) {
		return Destination{}, fmt.Errorf("host %q is not a mesh name: write service.namespace.%s or service.namespace.cluster.%s", host, Domain, Domain)
	}
	if len(host) > 253 {
		return Destination{}, fmt.Errorf("host name of %d bytes is longer than 253", len(host))
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	var d Destination
	if s, ok := strings.CutSuffix(name, "."+clustersetDomain); ok {
		svc, ns, ok := strings.Cut(s, ".")
		if !ok {
			return bad()
		}
		d.Service = ServiceName{ns, svc}
	} else {
		s, ok := strings.CutSuffix(name, "."+Domain)
		if !ok {
			return bad()
		}
		labels := strings.Split(s, ".")
		switch len(labels) {
		case 2:
			d.Service = ServiceName{labels[1], labels[0]}
		case 3:
			d.Service = ServiceName{labels[1], labels[0]}
			d.Cluster = ClusterName(labels[2])
			if CheckLabel(labels[2]) != nil {
				return bad()
			}
		default:
			return bad()
		}
	}
	if CheckLabel(d.Service.Name) != nil || CheckLabel(d.Service.Namespace) != nil {
		return bad()
	}
	return d, nil
}

// CheckLabel returns an error unless s is an RFC 1123 label: 1 to 63 lower-case
// letters, digits and hyphens, not starting or ending with a hyphen.
func CheckLabel(s string) error {
	if s == "" {
		return fmt.Errorf("must not be empty")
	}
	if len(s) > 63 {
		return fmt.Errorf("%q is longer than 63 characters", s)
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case c == '-' && i > 0 && i < len(s)-1:
		default:
			return fmt.Errorf("%q: use lower-case letters, digits and inner hyphens", s)
		}
	}
	return nil
}
