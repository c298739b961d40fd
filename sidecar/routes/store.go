package routes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// ErrAbsent says that the control plane knows of no such destination, or does
// not show it to this identity.
var ErrAbsent = errors.New("no such destination: is the service registered or exported, and the name right?")

// Store holds the current [Table]. Its methods may be called concurrently.
type Store struct {
	subscribe func(mesh.Destination)
	current   atomic.Pointer[version]

	mu sync.Mutex // serializes writers
}

// version is one table and the channel that closes when it is past.
type version struct {
	table *Table
	past  chan struct{}
}

// NewStore makes a store with an empty table. subscribe is called by [Store.Wait]
// for each destination that the table neither routes nor calls absent, once for
// each waiter; it must not block, and may be nil.
func NewStore(subscribe func(mesh.Destination)) *Store {
	s := &Store{subscribe: subscribe}
	s.current.Store(&version{NewTable(nil, nil), make(chan struct{})})
	return s
}

// Load returns the current table. It never blocks and allocates nothing.
func (s *Store) Load() *Table { return s.current.Load().table }

// Snapshot returns the current table and a channel that closes when it is past.
func (s *Store) Snapshot() (table *Table, past <-chan struct{}) {
	v := s.current.Load()
	return v.table, v.past
}

// Replace makes routes and absent the whole state. The store keeps the routes:
// they must not change afterwards.
func (s *Store) Replace(routes []*mesh.Route, absent []mesh.Destination) {
	v := &version{NewTable(routes, absent), make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.current.Swap(v).past)
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
