package discovery

import (
	"context"

	"github.com/isthmus-mesh/isthmus/internal/health"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Source gives the services of this cluster. Snapshot never blocks and may be
// called before Run. The set is sorted by name, is nil while it is not known yet,
// and never changes; the channel closes when a newer set is there. Run keeps the
// set current until ctx ends; an error says that it cannot.
type Source interface {
	Snapshot() ([]mesh.Service, <-chan struct{})
	Run(ctx context.Context) error
}

// Described is a service as a source describes it, before anybody has looked
// which of its endpoints answer. Their Ready says nothing.
type Described struct {
	Service mesh.Service
	Check   health.Check // with its defaults filled in
}
