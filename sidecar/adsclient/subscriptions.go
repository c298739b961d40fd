package adsclient

import (
	"maps"
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// subscriptions are the destinations that a gateway is asked for, by name, and the services
// whose policies are. The methods may be called concurrently.
type subscriptions struct {
	changed state.Notify // for the ADS loop

	mu       sync.Mutex
	names    map[string]struct{}
	backends map[string]struct{} // to which rules lead; replaced whole
	services []mesh.ServiceName  // never changed, only replaced
}

func newSubscriptions() *subscriptions {
	return &subscriptions{changed: state.NewNotify(), names: map[string]struct{}{}}
}

// add adds destinations and returns those that are too many.
func (s *subscriptions) add(dests []mesh.Destination) (refused []mesh.Destination) {
	defer s.changed.Notify()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, d := range dests {
		if len(s.names) >= maxSubscriptions {
			return dests[i:]
		}
		s.names[d.String()] = struct{}{}
	}
	return nil
}

func (s *subscriptions) remove(dests []mesh.Destination) {
	defer s.changed.Notify()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range dests {
		delete(s.names, d.String())
	}
}

// lead makes names those to which the rules of the others lead: they are asked for, too, for as
// long as they do.
func (s *subscriptions) lead(names map[string]struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !maps.Equal(s.backends, names) {
		s.backends = names
		s.changed.Notify()
	}
}

// has reports whether a destination is asked for by itself.
func (s *subscriptions) has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.names[name]
	return ok
}

// clone returns the names; they are the caller's. Of backends there are as many as there is room for.
func (s *subscriptions) clone() map[string]struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := maps.Clone(s.names)
	for name := range s.backends {
		if len(all) >= maxSubscriptions {
			break
		}
		all[name] = struct{}{}
	}
	return all
}

// setServices replaces the services.
func (s *subscriptions) setServices(services []mesh.ServiceName) {
	defer s.changed.Notify()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.services = services
}

// served returns the services; they must not be changed.
func (s *subscriptions) served() []mesh.ServiceName {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.services
}
