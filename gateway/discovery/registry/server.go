package registry

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/register"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Config is what a [Server] is made of. Everything has a default.
type Config struct {
	// Identity is this gateway's, to ask who is at an address that is not the
	// caller's own. Nil: nobody is asked and such an address is refused.
	Identity *identity.Source
	// StatePath is the file that keeps which registrations to wait for after a
	// restart. Empty: none, the source knows its set from the start.
	StatePath string
	// Log receives one line per registration that comes, goes or is refused.
	// Nil discards.
	Log *slog.Logger
	// Metrics is where isthmus_register_… are registered. Nil: not registered.
	Metrics prometheus.Registerer
}

// key is what a registration is known by.
type key struct {
	Service  mesh.ServiceName `json:"service"`
	Port     uint16           `json:"port"`
	Instance string           `json:"instance"`
}

// entry is a live registration.
type entry struct {
	stream   *stream
	protocol mesh.Protocol
	export   bool
	endpoint mesh.Endpoint
}

// stream is one call of Register; its address tells it from others.
type stream struct {
	id  identity.ID
	log *slog.Logger
}

// Server is a discovery source. Its methods may be called from any goroutine.
type Server struct {
	register.UnimplementedRegistryServer

	identity *identity.Source
	path     string
	log      *slog.Logger
	metrics  *metrics
	saver    *state.Saver // of known

	mu       sync.Mutex
	entries  map[key]entry
	held     map[string]int    // how many of entries each SPIFFE ID holds
	known    map[key]time.Time // live (zero) or ended without withdrawal (when)
	awaited  map[key]struct{}  // known before the restart and not back yet
	complete bool              // everybody of before the restart is back, or the time is up
	built    []mesh.Service    // of entries; nil: not built yet
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
		identity: cfg.Identity,
		path:     cfg.StatePath,
		log:      cfg.Log,
		metrics:  m,
		entries:  map[key]entry{},
		held:     map[string]int{},
		known:    map[key]time.Time{},
		awaited:  map[key]struct{}{},
		refusals: refusals{},
		complete: cfg.StatePath == "",
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
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
func (s *Server) Snapshot() ([]mesh.Service, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, past := s.changes.Snapshot()
	if !s.complete {
		return nil, past
	}
	if s.built == nil { // only now: a whole rack may register between two looks
		s.built = build(s.entries)
	}
	return s.built, past
}

// build makes services of registrations. Where two disagree about a port's
// protocol, the instance that sorts first is believed.
func build(entries map[key]entry) []mesh.Service {
	keys := make([]key, 0, len(entries))
	for k := range entries {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(a.Service.Compare(b.Service), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Instance, b.Instance))
	})
	services := []mesh.Service{}
	for _, k := range keys {
		e := entries[k]
		if n := len(services); n == 0 || services[n-1].Name != k.Service {
			services = append(services, mesh.Service{Name: k.Service})
		}
		svc := &services[len(services)-1]
		svc.Export = svc.Export || e.export
		if n := len(svc.Ports); n == 0 || svc.Ports[n-1].Port != k.Port {
			svc.Ports = append(svc.Ports, mesh.ServicePort{Port: k.Port, Protocol: e.protocol})
		}
		port := &svc.Ports[len(svc.Ports)-1]
		port.Endpoints = append(port.Endpoints, e.endpoint)
	}
	return services
}

// Register serves one registration stream. Called by gRPC.
func (s *Server) Register(calls register.Registry_RegisterServer) error {
	p, ok := peer.FromContext(calls.Context())
	if !ok {
		return status.Error(codes.Unauthenticated, "no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return status.Error(codes.Unauthenticated, "not a mutual TLS connection")
	}
	id, err := identity.PeerID(info.State)
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	st := &stream{id: id, log: s.log.With("peer_id", id.String(), "peer_addr", p.Addr.String())}
	var held key
	var claimed, proved string // the address as it was last sent, and as it was proved
	for {
		msg, err := calls.Recv()
		if err != nil {
			if held != (key{}) {
				s.ended(held, st, err, info.State)
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		k, e, err := parse(msg, id, p.Addr)
		if err == nil && e.endpoint.Address != claimed {
			claimed = e.endpoint.Address
			proved, err = s.prove(calls.Context(), claimed, id, p.Addr)
		}
		if err == nil {
			e.stream, e.endpoint.Address = st, proved
			err = s.put(k, e)
		}
		if err != nil {
			s.metrics.refused.Inc()
			s.logRefusal(st, msg, err)
			if held != (key{}) {
				s.remove(held, st, true)
			}
			return err
		}
		if held != k && held != (key{}) {
			s.remove(held, st, true)
		}
		held = k
		if err := calls.Send(&register.Ack{Address: e.endpoint.Address}); err != nil {
			s.remove(held, st, false)
			return err
		}
	}
}

// logRefusal says it once, and again now and then while st's sidecar tries on.
func (s *Server) logRefusal(st *stream, msg *register.Registration, err error) {
	s.mu.Lock()
	news := s.refusals.news(refused{st.id.String(), msg.GetService(), msg.GetInstance()}, err)
	s.mu.Unlock()
	if news {
		st.log.Warn("registration refused", "service", msg.GetService(), "instance", msg.GetInstance(), "err", err)
	}
}

// ended takes away what st registered under k, because reading from st gave err.
// When it was ended because its certificate has expired (gateway/xds does that),
// a sidecar with a new one is back in a moment: it gets that moment, so that a
// renewal is no outage.
func (s *Server) ended(k key, st *stream, err error, state tls.ConnectionState) {
	withdrawn := errors.Is(err, io.EOF)
	if withdrawn || !time.Now().After(state.PeerCertificates[0].NotAfter) {
		s.remove(k, st, withdrawn)
		return
	}
	time.AfterFunc(renewalTime, func() { s.remove(k, st, false) })
}

// put adds or replaces a registration. Its errors are gRPC statuses.
func (s *Server) put(k key, e entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, exists := s.entries[k]
	switch {
	case exists && old.stream != e.stream && (old.endpoint.Address != e.endpoint.Address || old.endpoint.Identity != e.endpoint.Identity):
		return status.Errorf(codes.AlreadyExists, "instance %q of %s is registered from %s by %s: give each sidecar an instance name of its own (key service.instance)",
			k.Instance, k.Service, old.endpoint.Address, old.endpoint.Identity)
	case !exists && len(s.entries) >= maxRegistrations:
		return status.Errorf(codes.ResourceExhausted, "this gateway holds %d registrations, no more", maxRegistrations)
	case !exists && s.held[e.endpoint.Identity] >= maxPerIdentity:
		return status.Errorf(codes.ResourceExhausted, "%s holds %d registrations here, no more: give the services identities of their own",
			e.endpoint.Identity, maxPerIdentity)
	}
	s.entries[k] = e
	if !exists {
		s.held[e.endpoint.Identity]++
		e.stream.log.Info("registered", "service", k.Service.String(), "instance", k.Instance, "addr", e.endpoint.Address)
		s.rememberLocked(k)
	}
	if exists && old.endpoint == e.endpoint && old.protocol == e.protocol && old.export == e.export {
		return nil
	}
	s.changedLocked()
	return nil
}

// remove takes away what st registered under k, unless another stream has replaced
// it since.
func (s *Server) remove(k key, st *stream, withdrawn bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[k]
	if e.stream != st {
		return
	}
	delete(s.entries, k)
	if s.held[e.endpoint.Identity]--; s.held[e.endpoint.Identity] == 0 {
		delete(s.held, e.endpoint.Identity)
	}
	s.endedLocked(k, withdrawn)
	st.log.Info("registration ended", "service", k.Service.String(), "instance", k.Instance, "withdrawn", withdrawn)
	s.changedLocked()
}

// changedLocked makes the current snapshot past.
func (s *Server) changedLocked() {
	s.metrics.live.Set(float64(len(s.entries)))
	s.built = nil
	s.changes.Set(struct{}{})
}

// errorf is a refusal of a malformed message.
func errorf(format string, args ...any) error {
	return status.Error(codes.InvalidArgument, fmt.Sprintf(format, args...))
}
