package routes

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// ErrAbsent says that the control plane knows of no such destination, or does
// not show it to this identity.
var ErrAbsent = errors.New("no such destination: is the service registered or exported, and the name right?")

// Store holds the current [Table], and has who connects to its routes follow it. Its
// methods may be called concurrently.
type Store struct {
	apply     func([]*mesh.Route)
	subscribe func(mesh.Destination)
	current   state.Store[*Table]

	mu sync.Mutex // serializes Replace
}

// NewStore makes a store with an empty table. [Store.Replace] calls apply with all
// routes before it publishes them: who finds a route here finds its hosts there.
// [Store.Wait] calls subscribe for each destination that the table neither routes
// nor calls absent, once for each waiter; it must not block. Both may be nil.
func NewStore(apply func([]*mesh.Route), subscribe func(mesh.Destination)) *Store {
	s := &Store{apply: apply, subscribe: subscribe}
	s.current.Set(NewTable(nil, nil))
	return s
}

// Load returns the current table. It never blocks and allocates nothing.
func (s *Store) Load() *Table { return s.current.Load() }

// Snapshot returns the current table and a channel that closes when it is past.
func (s *Store) Snapshot() (table *Table, past <-chan struct{}) { return s.current.Snapshot() }

// Replace makes routes and absent the whole state: first where connections go, then
// which names lead there. The store keeps the routes: they must not change afterwards.
func (s *Store) Replace(routes []*mesh.Route, absent []mesh.Destination) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.apply != nil {
		s.apply(routes)
	}
	s.current.Set(s.current.Load().next(routes, absent))
}

// Wait returns the route for d, subscribing to it when it is unknown, as soon
// as the control plane has sent it. Its error wraps [ErrAbsent] when the control
// plane has said that d does not exist, and ctx's error when ctx ends first.
func (s *Store) Wait(ctx context.Context, d mesh.Destination) (*mesh.Route, error) {
	for asked := false; ; {
		table, past := s.Snapshot()
		if r, ok := table.Lookup(d); ok {
			return r, nil
		}
		if table.Absent(d) {
			return nil, fmt.Errorf("route to %s: %w", d, ErrAbsent)
		}
		if !asked && s.subscribe != nil {
			s.subscribe(d)
		}
		asked = true
		select {
		case <-past:
		case <-ctx.Done():
			return nil, fmt.Errorf("route to %s: no gateway has answered yet: %w", d, context.Cause(ctx))
		}
	}
}
