package registry

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/audit"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/register"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Config is what a [Server] is made of. Everything has a default.
type Config struct {
	// Identity is this gateway's, to ask who is at an address that is not the
	// caller's own. Nil: nobody is asked and such an address is refused.
	Identity *identity.Source
	// Ranges are where such an address may be. Nil: private ones.
	Ranges []netip.Prefix
	// Resources gives what the operator's resources say of this cluster's services, and
	// a channel that closes when that is past; nil: it is not known yet. No function:
	// there are none.
	Resources func() ([]discovery.Described, <-chan struct{})
	// Audit is told who came, went and was refused. Nil discards.
	Audit *audit.Log
	// StatePath is the file that keeps which registrations to wait for after a
	// restart. Empty: none, the source knows its set from the start.
	StatePath string
	// Log receives one line per registration that comes, goes or is refused.
	// Nil discards.
	Log *slog.Logger
	// Metrics is where isthmus_registrations… are registered. Nil: not registered.
	Metrics prometheus.Registerer
}

// Server is a discovery source. Its methods may be called from any goroutine.
type Server struct {
	register.UnimplementedRegistryServer

	identity  *identity.Source
	ranges    []netip.Prefix
	proofs    *limit.Places[identity.ID] // addresses that are asked
	rates     *limit.Rates[identity.ID]  // of what they say
	resources func() ([]discovery.Described, <-chan struct{})
	audit     *audit.Log
	path      string
	most      int // registrations at a time
	log       *slog.Logger
	metrics   *metrics
	saver     *state.Saver // of known

	mu       sync.Mutex
	entries  map[key]entry
	holders  holders             // who has how many of entries
	known    map[key]time.Time   // live (zero) or ended without withdrawal (when)
	awaited  map[key]struct{}    // known before the restart and not back yet
	complete bool                // everybody of before the restart is back, or the time is up
	built    []discovery.Service // of entries; nil: not built yet
	refusals refusals
	changes  state.Store[struct{}]
}

var _ discovery.Source = (*Server)(nil)

// New returns a server without registrations. With a StatePath it knows nothing
// until Run.
func New(cfg Config) (*Server, error) {
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	s := &Server{
		identity:  cfg.Identity,
		ranges:    cfg.Ranges,
		proofs:    limit.NewPlaces[identity.ID](maxProofs, maxProofsPerIdentity),
		rates:     limit.NewRates[identity.ID](identityRate, identityBurst),
		resources: cfg.Resources,
		audit:     cfg.Audit,
		path:      cfg.StatePath,
		most:      maxRegistrations,
		log:       cfg.Log,
		metrics:   m,
		entries:   map[key]entry{},
		holders:   holders{identities: map[string]*holding{}, namespaces: map[string]int{}, ports: map[mesh.ServiceName]map[uint16]int{}},
		known:     map[key]time.Time{},
		awaited:   map[key]struct{}{},
		refusals:  refusals{},
		complete:  cfg.StatePath == "",
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.ranges == nil {
		s.ranges = privateRanges()
	}
	if s.resources == nil {
		s.resources = func() ([]discovery.Described, <-chan struct{}) { return []discovery.Described{}, nil }
	}
	s.saver = state.NewSaver(state.SaverConfig{What: "which sidecars are registered", Write: s.save, Interval: saveInterval, Log: s.log})
	return s, nil
}

// Attach adds the service to a gRPC server with mutual TLS; an element of
// gateway/xds.Config.Services.
func (s *Server) Attach(to grpc.ServiceRegistrar) { register.RegisterRegistryServer(to, s) }

// Snapshot returns every registered service, sorted by name, and a channel that is
// closed when that is past. Nil: not known yet, see the package comment. The
// services must not be changed.
func (s *Server) Snapshot() ([]discovery.Service, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, past := s.changes.Snapshot()
	if !s.complete {
		return nil, past
	}
	if s.built == nil { // only now: a whole rack may register between two looks
		s.built = servicesOf(s.entries)
	}
	return s.built, past
}

// changedLocked makes the current snapshot past.
func (s *Server) changedLocked() {
	s.metrics.live.Set(float64(len(s.entries)))
	s.built = nil
	s.changes.Set(struct{}{})
}
