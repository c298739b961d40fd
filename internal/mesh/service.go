package mesh

import (
	"maps"
	"net/netip"
	"slices"
)

// MaxWeight is the greatest weight of an endpoint. It keeps sums of weights far
// from overflow.
const MaxWeight = 1000

// Service is a service as its own cluster knows it. It never leaves the cluster.
type Service struct {
	Name     ServiceName
	Declared bool // by a resource of the operator's, not by its sidecars alone
	Ports    []ServicePort
	// ClusterSet is what its ServiceExport says beside; nil: it has none.
	ClusterSet *ClusterSet
	// OtherPorts: it has ports, too, that the mesh does not carry, such as UDP's.
	OtherPorts bool
	// Addresses are those that its cluster gives it, ClusterIPs; none of a headless one, whose
	// name in Kubernetes stands for each of its instances.
	Addresses []netip.Addr
	Headless  bool
}

// Outside reports whether programs are to reach s past the mesh where they ask for it by a
// name that is not the mesh's: a name has one address for all ports, so that every one must
// be the mesh's; and where no endpoint has a sidecar, the mesh has nothing to add.
func (s *Service) Outside() bool { return s.OtherPorts || s.Plain() }

// Plain reports whether s has endpoints and none of them has a sidecar.
func (s *Service) Plain() bool {
	plain := false
	for i := range s.Ports {
		for j := range s.Ports[i].Endpoints {
			if s.Ports[i].Endpoints[j].Identity != "" {
				return false
			}
			plain = true
		}
	}
	return plain
}

// Exported reports whether other clusters are told of any of the service's ports.
func (s *Service) Exported() bool {
	return slices.ContainsFunc(s.Ports, func(p ServicePort) bool { return p.Exported })
}

// ServicePort is one port of a Service with the endpoints that serve it.
type ServicePort struct {
	Port      uint16
	Protocol  Protocol
	Exported  bool // other clusters are told of it and may call it
	Endpoints []Endpoint
}

// Endpoint is the address of one instance of a service in its own cluster.
type Endpoint struct {
	Instance string // unique among the service's endpoints in its cluster
	Address  string // host:port to dial from within the cluster
	Ready    bool
	Target   uint16 // port at which programs find it that dial the host of Address by itself; 0: not known
	Weight   uint32 // relative capacity, at least 1
	// Identity is the SPIFFE ID that ends the TLS at Address. Empty: a plain
	// endpoint, for which the gateway ends the TLS and dials in the clear.
	Identity string
}

// PortNumbered returns the service's port n; n == 0 stands for the first.
func (s *Service) PortNumbered(n uint16) (*ServicePort, bool) {
	for i := range s.Ports {
		if n == 0 || s.Ports[i].Port == n {
			return &s.Ports[i], true
		}
	}
	return nil, false
}

// Export is what other clusters are told of a service.
type Export struct {
	Service ServiceName  `json:"service"`
	Ports   []ExportPort `json:"ports"`
	// ClusterSet is what a ServiceExport of Kubernetes says of it; nil: nothing does.
	ClusterSet *ClusterSet `json:"clusterset,omitempty"`
}

// ExportPort is one port of an Export.
type ExportPort struct {
	Port     uint16   `json:"port"`
	Protocol Protocol `json:"protocol"`
	Ready    uint32   `json:"ready"`    // endpoints that answer
	Total    uint32   `json:"total"`    // endpoints that exist
	Capacity uint32   `json:"capacity"` // sum of the weights of the ready ones
	// Identities are the SPIFFE IDs that may end the TLS, sorted, without
	// duplicates.
	Identities []string `json:"identities"`
	// Plain: nobody answers but gateways of the cluster, which end the TLS for endpoints
	// without an identity of their own. It follows from Identities, and is not told.
	Plain bool `json:"-"`
}

// PortNumbered returns the export's port n; n == 0 stands for the first.
func (e *Export) PortNumbered(n uint16) (*ExportPort, bool) {
	for i := range e.Ports {
		if n == 0 || e.Ports[i].Port == n {
			return &e.Ports[i], true
		}
	}
	return nil, false
}

// ExportOf returns what other clusters are told of s: its exported ports. Endpoints without an
// identity of their own answer under terminator, the SPIFFE ID of the gateway
// that ends their TLS.
func ExportOf(s *Service, terminator string) Export {
	e := Export{Service: s.Name, Ports: make([]ExportPort, 0, len(s.Ports)), ClusterSet: s.ClusterSet}
	for _, p := range s.Ports {
		if !p.Exported {
			continue
		}
		x := ExportPort{Port: p.Port, Protocol: p.Protocol, Total: uint32(len(p.Endpoints))}
		for _, ep := range p.Endpoints {
			id := ep.Identity
			if id == "" {
				id = terminator
			}
			x.Identities = append(x.Identities, id)
			if ep.Ready {
				x.Ready++
				x.Capacity += max(ep.Weight, 1)
			}
		}
		slices.Sort(x.Identities)
		x.Identities = slices.Compact(x.Identities)
		x.Plain = len(x.Identities) == 1 && x.Identities[0] == terminator
		e.Ports = append(e.Ports, x)
	}
	return e
}

// RoutePort is a port of a service, as a route to the service itself lists it.
type RoutePort struct {
	Number   uint16
	Protocol Protocol
}

// Route is what one sidecar may dial for one destination. Priority 0 are the
// endpoints of its own cluster, priority 1 its cluster's gateways, which stand
// for every other cluster together. A route whose Destination has Port 0 cannot
// be dialled: it says that the name exists, and lists its Ports.
type Route struct {
	Destination Destination
	Protocol    Protocol // of the only port that Destination names; TCP when it names none
	// Outside: programs that ask for the service by its name in Kubernetes are not led here,
	// see [Service.Outside]. Only with Destination.Port 0.
	Outside bool
	// Headless: that name stands for each instance. Only with Destination.Port 0.
	Headless bool
	// Addresses are what programs dial in place of the name, see [Service.Addresses]. They
	// lead to the service's Ports. Only with Destination.Port 0.
	Addresses []netip.Addr
	// Ports are those of the service, sorted by number; only with Destination.Port 0.
	Ports []RoutePort
	// Local are the endpoints of the sidecar's own cluster, unready ones
	// included, so that percentages are of everything that exists.
	Local []Endpoint
	// Gateways are the mesh addresses of the cluster's gateways. They are Ready
	// when they reach a remote cluster with ready capacity.
	Gateways []Endpoint
	// Identities are the SPIFFE IDs that may answer, wherever they run.
	Identities []string
	// Rules say where requests go instead; nil: there are none, which is not the same as
	// an empty list, of which no rule matches.
	Rules []Rule
	// ByNamespace are the rules for callers of a namespace, in place of Rules. A sidecar
	// sees its own as Rules, and no others.
	ByNamespace map[string][]Rule
}

// Equal reports whether r and o say the same. A test holds it to every field.
func (r *Route) Equal(o *Route) bool {
	return r == o || r.Destination == o.Destination && r.Protocol == o.Protocol && r.Outside == o.Outside &&
		r.Headless == o.Headless && slices.Equal(r.Addresses, o.Addresses) && slices.Equal(r.Ports, o.Ports) && slices.Equal(r.Local, o.Local) &&
		slices.Equal(r.Gateways, o.Gateways) && slices.Equal(r.Identities, o.Identities) &&
		EqualRules(r.Rules, o.Rules) && maps.EqualFunc(r.ByNamespace, o.ByNamespace, EqualRules)
}
