package discovery

import (
	"context"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/health"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Source gives the services of this cluster. Snapshot never blocks and may be
// called before Run. The set is sorted by name, is nil while it is not known yet,
// and never changes; the channel closes when a newer set is there. Run keeps the
// set current until ctx ends; an error says that it cannot.
type Source interface {
	Snapshot() ([]Service, <-chan struct{})
	Run(ctx context.Context) error
}

// Service is a service as one source describes it. It may have no ports: then it
// only says something of one that another source knows.
type Service struct {
	Name mesh.ServiceName
	// Export is the operator's word, which outranks what the ports say; nil: there is
	// none.
	Export   *bool
	Declared bool // by a resource of the operator's
	Ports    []mesh.ServicePort
	// ClusterSet is what a ServiceExport of Kubernetes says of it; nil: there is none.
	ClusterSet *mesh.ClusterSet
	OtherPorts bool // it has ports, too, that the mesh does not carry
	// Addresses and Headless are as in [mesh.Service].
	Addresses []netip.Addr
	Headless  bool
}

// Described is a service as a resource describes it, before anybody has looked
// which of its endpoints answer. Their Ready says nothing.
type Described struct {
	Service Service
	Check   health.Check // with its defaults filled in
	// Serves are the service accounts of the service's namespace that may register as
	// it, beside the one of its name.
	Serves []string
}
