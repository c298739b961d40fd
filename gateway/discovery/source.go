package discovery

import (
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/health"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Source gives the services of this cluster. Snapshot never blocks. The set is
// sorted by name, is nil while it is not known yet, and never changes; the
// channel closes when a newer set is there.
type Source interface {
	Snapshot() ([]mesh.Service, <-chan struct{})
}

// Described is a service as a source describes it, before anybody has looked
// which of its endpoints answer. Their Ready says nothing.
type Described struct {
	Service mesh.Service
	Check   health.Check // with its defaults filled in
}

// Store holds a value for readers: the current one, and a channel that closes
// when it is past. The zero Store holds the zero value; it must not be copied.
// Safe for concurrent use.
type Store[T any] struct {
	mu    sync.Mutex
	value T
	past  chan struct{} // nil until somebody asks
}

// Set replaces the value, which must not change afterwards.
func (s *Store[T]) Set(value T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value = value
	if s.past != nil {
		close(s.past)
		s.past = nil
	}
}

// Snapshot returns the value and a channel that closes when it is past.
func (s *Store[T]) Snapshot() (T, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.past == nil {
		s.past = make(chan struct{})
	}
	return s.value, s.past
}
