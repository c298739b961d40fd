package registry

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/audit"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// key is what a registration is known by.
type key struct {
	Service  mesh.ServiceName `json:"service"`
	Port     uint16           `json:"port"`
	Instance string           `json:"instance"`
}

// entry is a live registration.
type entry struct {
	stream   *stream
	since    time.Time
	protocol mesh.Protocol
	exported bool
	own      bool // the address is on the host that registers it
	endpoint mesh.Endpoint
}

func (e *entry) saysAs(o *entry) bool {
	return e.endpoint == o.endpoint && e.protocol == o.protocol && e.exported == o.exported
}

// isAt reports whether both are one endpoint, whatever is said of it.
func (e *entry) isAt(o *entry) bool {
	return e.endpoint.Address == o.endpoint.Address && e.endpoint.Identity == o.endpoint.Identity
}

// put adds or replaces a registration, and returns what it is known by: another
// instance name than in k where a live one has that. Its errors are gRPC statuses.
func (s *Server) put(k key, e entry) (key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resources, _ := s.resources()
	if err := mayServe(resources, e.stream.id, k.Service); err != nil { // they may have changed since
		return k, err
	}
	old, exists := s.entries[k]
	for n := 0; exists && old.stream != e.stream && !old.isAt(&e); n++ {
		k.Instance = apart(e.endpoint, n)
		old, exists = s.entries[k]
	}
	taken := exists && old.stream != e.stream
	if taken && old.own && !e.own {
		return k, status.Errorf(codes.AlreadyExists, "who is at %s registers it: nobody else may", e.endpoint.Address)
	}
	e.endpoint.Instance, e.since = k.Instance, time.Now()
	if exists {
		e.since = old.since
		s.holders.remove(k, &old)
	}
	if err := s.admitLocked(k, &e, exists); err != nil {
		if exists {
			s.holders.add(k, &old)
		}
		return k, err
	}
	s.holders.add(k, &e)
	s.entries[k] = e
	if taken {
		old.stream.end(status.Errorf(codes.AlreadyExists, "%s at %s is registered anew by another connection", k.Service, e.endpoint.Address))
	}
	if !exists {
		e.stream.log.Info("registered", "service", k.Service.String(), "instance", k.Instance, "addr", e.endpoint.Address)
		s.audit.Add(e.stream.event(audit.Granted, k.Service.String()+" "+k.Instance, ""))
		s.rememberLocked(k)
	}
	if !exists || !old.saysAs(&e) {
		s.changedLocked()
	}
	return k, nil
}

// apart is the instance name of an endpoint whose own is that of another: the same
// in all gateways.
func apart(e mesh.Endpoint, n int) string {
	sum := sha256.Sum256([]byte(e.Identity + " " + e.Address + " " + strconv.Itoa(n)))
	suffix := "-" + hex.EncodeToString(sum[:4])
	return e.Instance[:min(len(e.Instance), maxHost-len(suffix))] + suffix
}

// remove takes away what st registered under k, unless another stream has replaced
// it since.
func (s *Server) remove(k key, st *stream, withdrawn bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[k].stream == st {
		s.removeLocked(k, withdrawn)
	}
}

func (s *Server) removeLocked(k key, withdrawn bool) {
	e := s.entries[k]
	delete(s.entries, k)
	s.holders.remove(k, &e)
	s.endedLocked(k, withdrawn)
	s.audit.Add(e.stream.event(audit.Ended, k.Service.String()+" "+k.Instance, ""))
	e.stream.log.Info("registration ended", "service", k.Service.String(), "instance", k.Instance, "withdrawn", withdrawn)
	s.changedLocked()
}

// servicesOf makes services of registrations. A port is exported when all of its
// sidecars say so: what one says is no leave for another. Its protocol is that which
// most of them say, and of two as frequent the first by name.
func servicesOf(entries map[key]entry) []discovery.Service {
	keys := make([]key, 0, len(entries))
	for k := range entries {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(a.Service.Compare(b.Service), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Instance, b.Instance))
	})
	services := []discovery.Service{}
	var said map[mesh.Protocol]int // of the last port
	for _, k := range keys {
		e := entries[k]
		if n := len(services); n == 0 || services[n-1].Name != k.Service {
			services = append(services, discovery.Service{Name: k.Service})
		}
		svc := &services[len(services)-1]
		if n := len(svc.Ports); n == 0 || svc.Ports[n-1].Port != k.Port {
			svc.Ports = append(svc.Ports, mesh.ServicePort{Port: k.Port, Protocol: e.protocol, Exported: true})
			said = map[mesh.Protocol]int{}
		}
		port := &svc.Ports[len(svc.Ports)-1]
		port.Endpoints = append(port.Endpoints, e.endpoint)
		port.Exported = port.Exported && e.exported
		said[e.protocol]++
		if more := said[e.protocol] - said[port.Protocol]; more > 0 || more == 0 && e.protocol < port.Protocol {
			port.Protocol = e.protocol
		}
	}
	return services
}
