package adsclient

import (
	"maps"
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// subscriptions are the destinations that a gateway is asked for, by name. The
// methods may be called concurrently.
type subscriptions struct {
	changed state.Notify // for the ADS loop

	mu    sync.Mutex
	names map[string]struct{}
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

// clone returns the names; they are the caller's.
func (s *subscriptions) clone() map[string]struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.names)
}
