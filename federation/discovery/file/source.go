package file

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/federation/discovery"
)

// Source is a watched directory of resource files. Create it with [New].
type Source struct {
	dir   string
	log   *slog.Logger
	store discovery.Store[[]discovery.Described]
}

// Status is the state of one resource file.
type Status struct {
	File     string    `json:"file"`          // name within the directory
	Services int       `json:"services"`      // that are in use from it
	Loaded   time.Time `json:"loaded"`        // when what is in use was read; zero: never
	Err      string    `json:"err,omitempty"` // what is wrong with the file as it is now; what is in use is older
}

// New returns the source for dir and opens nothing. A nil registerer means
// that its metrics are not registered.
func New(dir string, log *slog.Logger, metrics prometheus.Registerer) *Source {
	return &Source{dir: dir, log: log}
}

// Run reads the directory and follows it until ctx ends. It returns an error at
// once when the directory cannot be read.
func (s *Source) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Snapshot returns all services that the files describe, sorted by name, and a
// channel that closes when they are past. Nil until the files have been read.
func (s *Source) Snapshot() ([]discovery.Described, <-chan struct{}) { return s.store.Snapshot() }

// Status returns the state of every file, sorted by name. Empty when all is
// read and well there is none.
func (s *Source) Status() []Status { return nil }
