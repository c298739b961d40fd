// Package bundles hands the bundles of a gateway to the sidecars of its cluster
// (package internal/trust), and knows who of them lacks one.
package bundles

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/tlsport"
	"github.com/isthmus-mesh/isthmus/internal/trust"
)

const (
	// maxDomains bounds the trust domains that a sidecar says it takes, and maxText
	// each of the texts that it says, in bytes.
	maxDomains = 16
	maxText    = 512
	// maxLines bounds the lines in the log at once; then there is one a second.
	maxLines = 16
)

// Sidecar is what a sidecar says that it holds.
type Sidecar struct {
	ID           string            // SPIFFE ID
	Held         map[string]uint64 // number of the bundle in force by trust domain; 0: none
	Root         string            // fingerprint of the root that its certificate is under
	OutdatedRoot bool              // that is not the last of its bundle
	Refused      string            // why it does not take what it was sent last
}

// Server serves the streams of sidecars. Its methods may be called concurrently.
type Server struct {
	trust.UnimplementedTrustServer

	trusted *identity.TrustStore
	log     *slog.Logger
	lines   *rate.Limiter // of log

	mu    sync.Mutex
	holds map[*stream]Sidecar // by open stream that has said something
}

// New returns a server of the bundles that are trusted. A nil log discards.
func New(trusted *identity.TrustStore, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{trusted: trusted, log: log, lines: rate.NewLimiter(rate.Every(time.Second), maxLines), holds: map[*stream]Sidecar{}}
}

// Attach adds the service to a gRPC server with mutual TLS; an element of
// gateway/xds.Config.Services.
func (s *Server) Attach(to grpc.ServiceRegistrar) { trust.RegisterTrustServer(to, s) }

// Sidecars returns what all sidecars with an open stream have said, sorted by identity.
func (s *Server) Sidecars() []Sidecar {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.holds))
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b Sidecar) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// stream is one call of Follow.
type stream struct {
	calls trust.Trust_FollowServer
	log   *slog.Logger
	sent  map[string]uint64 // number by trust domain
}

// Follow serves one sidecar. Called by gRPC.
func (s *Server) Follow(calls trust.Trust_FollowServer) error {
	who, err := tlsport.CallerOf(calls.Context())
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	id := who.ID.String()
	st := &stream{calls: calls, log: s.log.With("peer_id", id, "peer_addr", who.Addr.String()), sent: map[string]uint64{}}
	defer s.forget(st)
	said, failed := tlsport.Receive(calls.Context(), calls.Recv)
	var holds *Sidecar // nil: it has said nothing yet
	for {
		past := s.trusted.Past()
		if holds != nil {
			if err := st.tell(s.trusted.Bundles(), holds.Held, false); err != nil {
				return err
			}
		}
		select {
		case <-past:
		case err := <-failed:
			return err
		case h := <-said:
			first := holds == nil
			if holds, err = read(id, h); err != nil {
				return status.Error(codes.InvalidArgument, err.Error())
			}
			s.hear(st, *holds)
			if first {
				if err := st.tell(s.trusted.Bundles(), holds.Held, true); err != nil {
					return err
				}
			}
		}
	}
}

// tell sends the bundles that are newer than what the sidecar holds, each once. Without
// any it sends nothing, unless the sidecar waits for its first answer.
func (st *stream) tell(all []*identity.Bundle, held map[string]uint64, first bool) error {
	m := &trust.Bundles{}
	for _, b := range all {
		has, takes := held[b.TrustDomain]
		if takes && b.Number > max(has, st.sent[b.TrustDomain]) {
			st.sent[b.TrustDomain] = b.Number
			m.Bundles = append(m.Bundles, b.Bytes())
		}
	}
	if len(m.Bundles) == 0 && !first {
		return nil
	}
	return st.calls.Send(m)
}

// read takes what a sidecar says, within bounds.
func read(id string, h *trust.Holding) (*Sidecar, error) {
	if len(h.GetHeld()) > maxDomains {
		return nil, errors.New("too many trust domains")
	}
	s := &Sidecar{ID: id, Held: map[string]uint64{}, Root: bounded(h.GetRoot()), OutdatedRoot: h.GetOutdatedRoot(), Refused: bounded(h.GetRefused())}
	for _, held := range h.GetHeld() {
		s.Held[bounded(held.GetTrustDomain())] = held.GetNumber()
	}
	return s, nil
}

func bounded(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxText)], "") }

func (s *Server) hear(st *stream, now Sidecar) {
	s.mu.Lock()
	was := s.holds[st]
	s.holds[st] = now
	s.mu.Unlock()
	if now.Refused != "" && now.Refused != was.Refused && s.lines.Allow() {
		st.log.Warn("a sidecar does not take a bundle", "err", now.Refused)
	}
}

func (s *Server) forget(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.holds, st)
}
