package config

import (
	"fmt"

	"github.com/isthmus-mesh/isthmus/internal/health"
	"github.com/isthmus-mesh/isthmus/internal/hostport"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// maxServed bounds the ports that one sidecar serves. Each is a stream of its own to
// every gateway, which takes 32 on a connection.
const maxServed = 24

// Service is the program beside a sidecar and the port of a service that it is an
// instance of.
type Service struct {
	// namespace/name, such as shop/orders. Required. The namespace is that of the
	// certificate.
	Name mesh.ServiceName `yaml:"name"`
	// The service's port that callers name.
	Port uint16 `yaml:"port"`
	// host:port that the program listens on. Required.
	Target string `yaml:"target"`
	// What the program speaks: http, grpc or http2 (HTTP/2 without TLS), tcp, or auto, which
	// goes by the first bytes of each connection.
	Protocol mesh.Protocol `yaml:"protocol"`
	// This instance's name among those of the service. Default: the host name.
	Instance string `yaml:"instance"`
	// host:port at which the cluster's gateways and sidecars reach listen.inbound.
	// Without a host, as by default, it is the address that the gateway sees this
	// sidecar's connection come from. A gateway dials any other once, and takes it
	// when this sidecar answers there. Default: listen.inbound.
	Advertise string `yaml:"advertise"`
	// Relative capacity, 1 to 1000: an instance of weight 2 gets twice the requests
	// of one of weight 1.
	Weight uint32 `yaml:"weight"`
	// Whether other clusters are told of the service and may call it. A
	// ServiceExport among the gateway's resources says the same.
	Export bool `yaml:"export"`
	// How the program is checked. Default: a TCP connect.
	Health health.Check `yaml:"health"`
	// Bounds on callers' exchanges with the program.
	Timeouts Timeouts `yaml:"timeouts"`
}

// ServiceOfPorts is a service of which several ports run beside a sidecar.
type ServiceOfPorts struct {
	// namespace/name, such as shop/orders. Required. The namespace is that of the
	// certificate, whose account is the service's name, or stands in serves of the
	// service's resource at the gateways.
	Name mesh.ServiceName `yaml:"name"`
	// This instance's name among those of the service. Default: the host name.
	Instance string `yaml:"instance"`
	// As service.advertise. Default: listen.inbound.
	Advertise string `yaml:"advertise"`
	// As service.weight. Default: 1.
	Weight uint32 `yaml:"weight"`
	// As service.export, for the ports that do not say it themselves.
	Export bool `yaml:"export"`
	// What callers may name, each with its program. At least one.
	Ports []ServedPort `yaml:"ports"`
}

// ServedPort is one port of a [ServiceOfPorts].
type ServedPort struct {
	// The port that callers name, 1 to 65535. Required.
	Port uint16 `yaml:"port"`
	// host:port that the program listens on. Required.
	Target string `yaml:"target"`
	// What the program speaks there, as service.protocol. Default: tcp.
	Protocol mesh.Protocol `yaml:"protocol"`
	// Whether other clusters are told of this port and may call it. Default: the
	// service's export.
	Export *bool `yaml:"export"`
	// How the program is checked there; the port is ready by itself. Default: a TCP
	// connect.
	Health health.Check `yaml:"health"`
	// Bounds on callers' exchanges with the program.
	Timeouts Timeouts `yaml:"timeouts"`
}

// Served is one port of one service that the sidecar serves, in whichever form it was written.
type Served struct {
	Service
	Key string // of the port in the file: service, or services[0].ports[1]
}

// Destination is what callers name.
func (s *Served) Destination() mesh.Destination {
	return mesh.Destination{Service: s.Name, Port: s.Port}
}

// Served returns every port that the sidecar serves, in the order of the file.
func (s *Sidecar) Served() []Served {
	var all []Served
	if s.Service != nil {
		all = append(all, Served{*s.Service, "service"})
	}
	for i := range s.Services {
		of := &s.Services[i]
		for j := range of.Ports {
			p := &of.Ports[j]
			export := of.Export
			if p.Export != nil {
				export = *p.Export
			}
			all = append(all, Served{Service{
				Name: of.Name, Port: p.Port, Target: p.Target, Protocol: p.Protocol, Instance: of.Instance, Advertise: of.Advertise,
				Weight: of.Weight, Export: export, Health: p.Health, Timeouts: p.Timeouts,
			}, fmt.Sprintf("services[%d].ports[%d]", i, j)})
		}
	}
	return all
}

// completeServed fills in what was left out of service and services. It comes after the
// listeners, with which targets are compared.
func (s *Sidecar) completeServed(c *completer) {
	if s.Service != nil {
		s.Service.complete(c, s.Listen.Inbound)
	}
	ports := 0
	for i := range s.Services {
		ports += len(s.Services[i].Ports)
	}
	switch {
	case s.Service != nil && len(s.Services) > 0:
		c.fault("services", "stands beside service: write the one that is in service into services, too, and remove service")
	case ports > maxServed || len(s.Services) > maxServed:
		c.fault("services", "has %d ports of %d services: one sidecar serves at most %d ports", ports, len(s.Services), maxServed)
		return
	}
	for i := range s.Services {
		s.Services[i].complete(c, fmt.Sprintf("services[%d]", i), s.Listen.Inbound)
		for j := range i {
			if name := s.Services[i].Name; name == s.Services[j].Name && name != (mesh.ServiceName{}) {
				c.fault(fmt.Sprintf("services[%d].name", i), "%s is services[%d] already: write its ports there", name, j)
				break
			}
		}
	}
	s.targetsDiffer(c)
}

func (s *Service) complete(c *completer, inbound string) {
	if s.Port == 0 {
		c.fault("service.port", "must be 1 to 65535")
	}
	c.serviceName("service.name", s.Name)
	c.instance("service.instance", &s.Instance, s.Name)
	c.weight("service.weight", s.Weight)
	c.advertised("service.advertise", &s.Advertise, inbound)
	c.target("service.target", &s.Target)
	c.protocol("service.protocol", s.Protocol)
	c.health("service.health", &s.Health)
	c.healthOf("service.health.type", &s.Health, s.Protocol)
	s.Timeouts.complete(c, "service.timeouts")
}

func (s *ServiceOfPorts) complete(c *completer, key, inbound string) {
	c.serviceName(key+".name", s.Name)
	if s.Instance == "" && !c.doc.Has(key+".instance") {
		s.Instance = hostName()
	}
	c.instance(key+".instance", &s.Instance, s.Name)
	if s.Weight == 0 && !c.doc.Has(key+".weight") {
		s.Weight = 1
	}
	c.weight(key+".weight", s.Weight)
	c.advertised(key+".advertise", &s.Advertise, inbound)
	if len(s.Ports) == 0 {
		c.fault(key+".ports", "is missing: write what callers name, such as [{port: 80, target: 127.0.0.1:8080, protocol: http}]")
	}
	for i := range s.Ports {
		p, at := &s.Ports[i], fmt.Sprintf("%s.ports[%d]", key, i)
		if p.Port == 0 {
			c.fault(at+".port", "is missing: write 1 to 65535")
		}
		for j := range i {
			if p.Port == s.Ports[j].Port && p.Port != 0 {
				c.fault(at+".port", "%d is %s.ports[%d] already: remove one", p.Port, key, j)
				break
			}
		}
		c.target(at+".target", &p.Target)
		if p.Protocol == "" {
			p.Protocol = mesh.TCP
		}
		c.protocol(at+".protocol", p.Protocol)
		c.health(at+".health", &p.Health)
		c.healthOf(at+".health.type", &p.Health, p.Protocol)
		p.Timeouts.complete(c, at+".timeouts")
	}
}

func (c *completer) serviceName(key string, name mesh.ServiceName) {
	if name == (mesh.ServiceName{}) {
		c.fault(key, "is missing: write namespace/name, such as shop/orders")
	}
}

// target completes where a program listens, which is none of the sidecar's own addresses.
func (c *completer) target(key string, target *string) {
	if *target == "" {
		c.fault(key, "is missing: write where the program listens, such as 127.0.0.1:8080")
		return
	}
	at, ok := c.dial(key, target, 0, "127.0.0.1:8080")
	if !ok {
		return
	}
	for _, l := range c.listens {
		if at.Overlaps(l.addr) && (!l.addr.Everywhere() || at.OnThisHost()) {
			c.fault(key, "%s is the sidecar's own %s: write where the program listens", at, l.key)
			return
		}
	}
}

func (c *completer) protocol(key string, p mesh.Protocol) {
	if _, err := mesh.ParseProtocol(string(p)); err != nil {
		c.fault(key, "%q is not spoken: write %s", p, mesh.Protocols)
	}
}

func (c *completer) instance(key string, instance *string, of mesh.ServiceName) {
	if *instance == "" && !c.doc.Has(key) {
		c.fault(key, "is missing: the host's name cannot be used: write this instance's, such as %s-1", of.Name)
	} else if err := hostport.CheckName(*instance); err != nil {
		c.fault(key, "%v", err)
	}
}

func (c *completer) weight(key string, weight uint32) {
	if weight == 0 || weight > mesh.MaxWeight {
		c.fault(key, "%d is out of range: write 1 to %d", weight, mesh.MaxWeight)
	}
}

func (c *completer) health(key string, check *health.Check) {
	check.Validate(func(at, problem string) { c.fault(key+"."+at, "%s", problem) })
	*check = check.WithDefaults()
}

// healthOf refuses a check by gRPC of a program that does not speak HTTP/2.
func (c *completer) healthOf(key string, check *health.Check, speaks mesh.Protocol) {
	if check.Kind == health.GRPC && (speaks == mesh.HTTP || speaks == mesh.TCP) {
		c.fault(key, "grpc asks the program by HTTP/2, and its protocol is %s: write http or tcp here, or grpc as the protocol", speaks)
	}
}

// targetsDiffer refuses two ports that lead to one program and say of it that it speaks HTTP/1.1 and
// HTTP/2: one of them would have all its requests fail.
func (s *Sidecar) targetsDiffer(c *completer) {
	all := s.Served()
	for i := range all {
		for j := range i {
			a, b := &all[i], &all[j]
			if a.Target == b.Target && a.Protocol.IsHTTP() && b.Protocol.IsHTTP() && (a.Protocol == mesh.HTTP) != (b.Protocol == mesh.HTTP) {
				c.fault(a.Key+".protocol", "is %s, and %s says that the same program, %s, speaks %s: write one and the same", a.Protocol, b.Key, a.Target, b.Protocol)
				return
			}
		}
	}
}

// advertised makes an address host:port, or :port when the gateway is to see for
// itself where the sidecar is.
func (c *completer) advertised(key string, advertise *string, inbound string) {
	in, err := hostport.Parse(inbound)
	if err != nil || in.Port < 0 {
		return // told with listen.inbound
	}
	if *advertise == "" {
		if in.Everywhere() {
			in.Host = ""
		}
		*advertise = in.String()
		return
	}
	a, err := hostport.Parse(*advertise)
	if err != nil {
		c.fault(key, "%v: write host:port, such as 10.0.1.7:%d", err, InboundPort)
		return
	}
	if a.Host != "" && a.Everywhere() {
		c.fault(key, "%q cannot be dialled: write the address of this host, such as 10.0.1.7:%d", *advertise, InboundPort)
		return
	}
	if a.Port < 0 {
		a.Port = in.Port
	}
	*advertise = a.String()
}
