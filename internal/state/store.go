package state

import (
	"reflect"
	"sync"
	"sync/atomic"
)

// Store holds one value that is replaced whole. The zero Store holds the zero
// value of T. Its methods may be called concurrently; it must not be copied.
type Store[T any] struct {
	current atomic.Pointer[version[T]] // nil until the first Set or Snapshot
	mu      sync.Mutex                 // serializes Set
}

// version is one value and the channel that closes when it is past.
type version[T any] struct {
	value T
	past  chan struct{}
}

// Set makes value the current one. It must not be changed afterwards.
func (s *Store[T]) Set(value T) {
	next := &version[T]{value, make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := s.current.Swap(next); last != nil {
		close(last.past)
	}
}

// SetIfChanged spares readers a value that says the same as the current one, and reports
// whether it was set. Who calls it must be the only one who sets.
func (s *Store[T]) SetIfChanged(value T) bool {
	if v := s.current.Load(); v != nil && reflect.DeepEqual(v.value, value) {
		return false
	}
	s.Set(value)
	return true
}

// Load returns the current value. It never blocks and allocates nothing.
func (s *Store[T]) Load() (value T) {
	if v := s.current.Load(); v != nil {
		return v.value
	}
	return value
}

// Snapshot returns the current value and a channel that closes when it is past.
func (s *Store[T]) Snapshot() (T, <-chan struct{}) {
	for {
		if v := s.current.Load(); v != nil {
			return v.value, v.past
		}
		s.current.CompareAndSwap(nil, &version[T]{past: make(chan struct{})})
	}
}
