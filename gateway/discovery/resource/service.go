package resource

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/health"
	"github.com/isthmus-mesh/isthmus/internal/hostport"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/strictyaml"
)

// metadata is what Kubernetes objects have in common.
type metadata struct {
	// The namespace. Required.
	Namespace string `yaml:"namespace"`
	// The name, unique in its namespace. Required.
	Name string `yaml:"name"`
	// Read and not used.
	Labels map[string]string `yaml:"labels"`
	// Read and not used.
	Annotations map[string]string `yaml:"annotations"`
}

// serviceResource is isthmus.io/v1alpha1 Service.
type serviceResource struct {
	// isthmus.io/v1alpha1. Required.
	APIVersion string `yaml:"apiVersion"`
	// Service. Required.
	Kind string `yaml:"kind"`
	// Which service it is.
	Metadata metadata `yaml:"metadata"`
	// What the service is.
	Spec struct {
		// Whether other clusters are told of the service and may call it, whatever
		// its sidecars say. A ServiceExport says true. Default: false with
		// endpoints, else what the sidecars say.
		Export *bool `yaml:"export"`
		// The ports that callers name. At least one with endpoints; without them, of
		// ports that are not here counts what the sidecars say.
		Ports []portResource `yaml:"ports"`
		// Where it runs: host, or host:port for a service of one port.
		Endpoints []endpointResource `yaml:"endpoints"`
		// Service accounts of the namespace whose sidecars may register as the
		// service, beside the account of the service's own name.
		Serves []string `yaml:"serves"`
		// Who may call, in every port, as the from of an AuthorizationPolicy has it:
		// nobody else may, but by a policy of the service. Default: the service's own
		// namespace.
		Allow []callersResource `yaml:"allow"`
		// How every endpoint is checked. Default: a TCP connect.
		Health health.Check `yaml:"health"`
	} `yaml:"spec"`
}

type portResource struct {
	// The port that callers name, 1 to 65535. Required.
	Port uint16 `yaml:"port"`
	// What the endpoints speak, whatever sidecars say: http, grpc, http2, tcp or auto. Default: tcp.
	Protocol mesh.Protocol `yaml:"protocol"`
	// The port of the endpoints. Default: that which callers name.
	TargetPort uint16 `yaml:"targetPort"`
}

// endpointResource has a short form, its address.
type endpointResource struct {
	// host or host:port. It may stand alone, in place of the mapping. Required.
	Address string `yaml:"address"`
	// Its name among those of the service. Default: its address.
	Instance string `yaml:"instance"`
	// Relative capacity, 1 to 1000. Default: 1.
	Weight *uint32 `yaml:"weight"`
}

// UnmarshalText reads the short form.
func (e *endpointResource) UnmarshalText(b []byte) error {
	e.Address = string(b)
	return nil
}

// exportResource is multicluster.x-k8s.io ServiceExport (KEP-1645). What it
// says of labels and annotations is read and has no meaning here.
type exportResource struct {
	APIVersion string   `yaml:"apiVersion"`
	Kind       string   `yaml:"kind"`
	Metadata   metadata `yaml:"metadata"`
	Spec       struct {
		Labels      map[string]string `yaml:"exportedLabels"`
		Annotations map[string]string `yaml:"exportedAnnotations"`
	} `yaml:"spec"`
}

// reader turns one document into mesh nouns and collects its faults.
type reader struct {
	doc    *strictyaml.Document
	faults strictyaml.Faults
}

func (r *reader) fault(key, format string, args ...any) {
	r.faults = append(r.faults, r.doc.Fault(key, format, args...))
}

func (r *reader) decode(into any) bool {
	err := r.doc.Decode(into)
	faults, _ := errors.AsType[strictyaml.Faults](err) // Decode has no other errors
	r.faults = append(r.faults, faults...)
	return err == nil
}

func (r *reader) name(m metadata) mesh.ServiceName {
	r.label("metadata.namespace", m.Namespace)
	r.label("metadata.name", m.Name)
	return mesh.ServiceName{Namespace: m.Namespace, Name: m.Name}
}

func (r *reader) label(key, value string) {
	if value == "" {
		r.fault(key, "is missing: write metadata: {namespace: shop, name: orders}")
	} else if err := mesh.CheckLabel(value); err != nil {
		r.fault(key, "%v", err)
	}
}

func (r *reader) service() (discovery.Described, *policy.Policy) {
	var s serviceResource
	if !r.decode(&s) {
		return discovery.Described{}, nil // what follows would only echo it
	}
	d := discovery.Described{
		Service: discovery.Service{Name: r.name(s.Metadata), Declared: true, Export: s.Spec.Export},
		Check:   s.Spec.Health.WithDefaults(),
		Serves:  r.accounts(s.Spec.Serves),
	}
	if s.Spec.Export == nil && len(s.Spec.Endpoints) > 0 {
		d.Service.Export = new(false)
	}
	allow := r.allow(&s)
	s.Spec.Health.Validate(func(key, problem string) { r.fault("spec.health."+key, "%s", problem) })
	if len(s.Spec.Ports) == 0 && len(s.Spec.Serves) == 0 && s.Spec.Export == nil && allow == nil {
		r.fault("spec.ports", "is missing: write the ports that callers name, such as [{port: 80, protocol: http}]")
	}
	if len(s.Spec.Ports) > maxPorts || len(s.Spec.Endpoints) > maxEndpoints {
		r.fault("spec", "has %d ports and %d endpoints: at most %d and %d are read", len(s.Spec.Ports), len(s.Spec.Endpoints), maxPorts, maxEndpoints)
		return d, allow
	}
	endpoints := r.endpoints(s.Spec.Endpoints, len(s.Spec.Ports))
	first := map[uint16]int{}
	for i, p := range s.Spec.Ports {
		key := fmt.Sprintf("spec.ports[%d]", i)
		if p.Port == 0 {
			r.fault(key+".port", "is missing: write 1 to 65535")
		} else if j, again := first[p.Port]; again {
			r.fault(key+".port", "%d is spec.ports[%d] already: remove one", p.Port, j)
		}
		first[p.Port] = i
		d.Service.Ports = append(d.Service.Ports, r.port(key, p, endpoints))
	}
	return d, allow
}

// accounts checks the names of service accounts.
func (r *reader) accounts(names []string) []string {
	if len(names) > maxAccounts {
		r.fault("spec.serves", "has %d accounts: at most %d are read", len(names), maxAccounts)
		return nil
	}
	for i, name := range names {
		if err := identity.CheckServiceAccount(name); err != nil {
			r.fault(fmt.Sprintf("spec.serves[%d]", i), "%q: %v: write the name of a service account", name, err)
		}
	}
	return names
}

// port gives a port of the service the endpoints at its target port.
func (r *reader) port(key string, p portResource, endpoints []endpointAt) mesh.ServicePort {
	out := mesh.ServicePort{Port: p.Port, Protocol: p.Protocol, Exported: true} // unless the service is not
	if p.Protocol == "" {
		out.Protocol = mesh.TCP
	} else if _, err := mesh.ParseProtocol(string(p.Protocol)); err != nil {
		r.fault(key+".protocol", "%q is not spoken: write %s", p.Protocol, mesh.Protocols)
	}
	target := int(p.TargetPort)
	if target == 0 {
		if r.doc.Has(key + ".targetPort") {
			r.fault(key+".targetPort", "must be 1 to 65535")
		}
		target = int(p.Port)
	}
	for _, e := range endpoints {
		port := e.at.Port
		if port < 0 {
			port = target
		}
		e.Address = net.JoinHostPort(e.at.Host, strconv.Itoa(port))
		out.Endpoints = append(out.Endpoints, e.Endpoint)
	}
	return out
}

// endpointAt is an endpoint whose port may still come from the service's.
type endpointAt struct {
	mesh.Endpoint
	at hostport.Addr
}

func (r *reader) endpoints(list []endpointResource, ports int) []endpointAt {
	var all []endpointAt
	instances, addresses := map[string]int{}, map[hostport.Addr]int{}
	for i, e := range list {
		key := fmt.Sprintf("spec.endpoints[%d]", i)
		addressKey := key
		if r.doc.Has(key + ".address") {
			addressKey += ".address"
		}
		at, err := hostport.Parse(e.Address)
		switch {
		case e.Address == "":
			r.fault(key, "has no address: write {address: 10.0.1.7:8080}")
			continue
		case err != nil:
			r.fault(addressKey, "%v: write host or host:port, such as 10.0.1.7:8080", err)
			continue
		case at.Everywhere() || at.Port == 0:
			r.fault(addressKey, "%q cannot be dialled: write host or host:port, such as 10.0.1.7:8080", e.Address)
			continue
		case at.Port > 0 && ports > 1:
			r.fault(addressKey, "%q has a port, but the service has %d: write only the host here, and targetPort beside each port", e.Address, ports)
			continue
		}
		if j, again := addresses[at]; again {
			r.fault(addressKey, "%s is spec.endpoints[%d] already: remove one", e.Address, j)
			continue
		}
		addresses[at] = i
		if e.Instance == "" {
			e.Instance = instanceOf(at)
		} else if err := hostport.CheckName(e.Instance); err != nil {
			r.fault(key+".instance", "%v", err)
		}
		if j, again := instances[e.Instance]; again {
			r.fault(key+".instance", "%s is spec.endpoints[%d] already: write another name", e.Instance, j)
		}
		instances[e.Instance] = i
		weight := uint32(1)
		if e.Weight != nil {
			weight = *e.Weight
			if weight < 1 || weight > mesh.MaxWeight {
				r.fault(key+".weight", "%d is out of range: write 1 to %d", weight, mesh.MaxWeight)
			}
		}
		all = append(all, endpointAt{mesh.Endpoint{Instance: e.Instance, Weight: weight}, at})
	}
	return all
}

// instanceOf names an endpoint by its address: it stays the same when the list
// is put in another order. Colons become hyphens, as instances have none.
func instanceOf(at hostport.Addr) string {
	name := strings.Trim(strings.ReplaceAll(at.Host, ":", "-"), "-")
	if at.Port > 0 {
		name += "-" + strconv.Itoa(at.Port)
	}
	return name
}

func (r *reader) export() mesh.ServiceName {
	var e exportResource
	if !r.decode(&e) {
		return mesh.ServiceName{}
	}
	return r.name(e.Metadata)
}
