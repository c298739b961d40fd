package registry

import (
	"context"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// mayServe returns nil when id may register as the service name, else a gRPC status
// that says what to write. resources are sorted by name; nil: not known yet.
func mayServe(resources []discovery.Described, id identity.ID, name mesh.ServiceName) error {
	if name.Namespace != id.Namespace {
		return status.Errorf(codes.PermissionDenied, "service %s is not of namespace %s, which is that of %s: a workload may only register services of its own namespace",
			name, id.Namespace, id)
	}
	if id.ServiceAccount == name.Name {
		return nil
	}
	if resources == nil {
		return status.Error(codes.Unavailable, "this gateway has not read its resources yet: try again")
	}
	i, found := slices.BinarySearchFunc(resources, name, func(d discovery.Described, n mesh.ServiceName) int { return d.Service.Name.Compare(n) })
	if found && slices.Contains(resources[i].Serves, id.ServiceAccount) {
		return nil
	}
	return status.Errorf(codes.PermissionDenied,
		"service %s is registered by service account %s, and this certificate is of account %s: make one with isthmus pki workload --cluster %s %s, or write serves: [%s] into the spec of the Service %s in the resources of the cluster's gateways",
		name, name.Name, id.ServiceAccount, id.Cluster, name, id.ServiceAccount, name)
}

// waitResources returns when the resources are known, or ctx ends.
func (s *Server) waitResources(ctx context.Context) error {
	for {
		resources, past := s.resources()
		if resources != nil {
			return nil
		}
		select {
		case <-past:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// judge ends the registrations of those who may not serve any more, whenever the
// resources change, until ctx ends.
func (s *Server) judge(ctx context.Context) {
	for {
		resources, past := s.resources()
		if resources != nil {
			s.judgeAll(resources)
		}
		select {
		case <-past:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Server) judgeAll(resources []discovery.Described) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, e := range s.entries {
		if err := mayServe(resources, e.stream.id, k.Service); err != nil {
			s.removeLocked(k, true)
			e.stream.end(err)
		}
	}
}

// holders counts live registrations. Guarded by Server.mu.
type holders struct {
	identities map[string]*holding // by SPIFFE ID
	namespaces map[string]int
	ports      map[mesh.ServiceName]map[uint16]int
}

// holding is what one identity has.
type holding struct {
	count  int
	weight uint32 // of all together
}

func (h *holders) of(e *entry) holding {
	if held := h.identities[e.endpoint.Identity]; held != nil {
		return *held
	}
	return holding{}
}

func (h *holders) add(k key, e *entry) {
	if h.ports[k.Service] == nil {
		h.ports[k.Service] = map[uint16]int{}
	}
	h.ports[k.Service][k.Port]++
	held := h.identities[e.endpoint.Identity]
	if held == nil {
		held = &holding{}
		h.identities[e.endpoint.Identity] = held
	}
	held.count++
	held.weight += e.endpoint.Weight
	h.namespaces[e.stream.id.Namespace]++
}

func (h *holders) remove(k key, e *entry) {
	ports := h.ports[k.Service]
	if ports[k.Port]--; ports[k.Port] == 0 {
		delete(ports, k.Port)
	}
	if len(ports) == 0 {
		delete(h.ports, k.Service)
	}
	held, namespace := h.identities[e.endpoint.Identity], e.stream.id.Namespace
	held.weight -= e.endpoint.Weight
	if held.count--; held.count == 0 {
		delete(h.identities, e.endpoint.Identity)
	}
	if h.namespaces[namespace]--; h.namespaces[namespace] == 0 {
		delete(h.namespaces, namespace)
	}
}

// largest returns the namespace that has the most registrations, of equals the first
// by name.
func (h *holders) largest() (namespace string, count int) {
	for n, c := range h.namespaces {
		if c > count || c == count && n < namespace {
			namespace, count = n, c
		}
	}
	return namespace, count
}

// admitLocked makes room for a registration, which may replace one: when the gateway
// is full, the namespace that has the most gives one up for one that has
// fewer, the last one of the identity that has the most there.
func (s *Server) admitLocked(k key, e *entry, replaces bool) error {
	held, ports := s.holders.of(e), s.holders.ports[k.Service]
	switch {
	case ports[k.Port] == 0 && len(ports) >= maxPorts:
		return status.Errorf(codes.ResourceExhausted, "%s is registered with %d ports, no more: other clusters could not be told of it", k.Service, maxPorts)
	case held.count >= maxPerIdentity:
		return status.Errorf(codes.ResourceExhausted, "%s has %d registrations here, no more: give the services accounts of their own", e.endpoint.Identity, maxPerIdentity)
	case held.weight+e.endpoint.Weight > maxWeightPerIdentity:
		return status.Errorf(codes.ResourceExhausted, "the registrations of %s have weight %d together, and may have %d: write less (key service.weight)",
			e.endpoint.Identity, held.weight+e.endpoint.Weight, maxWeightPerIdentity)
	case replaces || len(s.entries) < s.most:
		return nil
	}
	largest, count := s.holders.largest()
	full := status.Errorf(codes.ResourceExhausted, "this gateway has %d registrations, no more, and namespace %s the most of them: %d", s.most, largest, count)
	if s.holders.namespaces[e.stream.id.Namespace]+1 >= count {
		return full
	}
	last := s.lastOf(largest)
	st := s.entries[last].stream
	s.removeLocked(last, true)
	st.end(full)
	return nil
}

// lastOf returns the youngest registration of the identity that has the most in a
// namespace. It looks at every one, which only happens once this gateway is full and
// a namespace comes that has few.
func (s *Server) lastOf(namespace string) (last key) {
	most := 0
	for k, e := range s.entries {
		if e.stream.id.Namespace != namespace {
			continue
		}
		has := s.holders.of(&e).count
		if has > most || has == most && e.since.After(s.entries[last].since) {
			last, most = k, has
		}
	}
	return last
}
