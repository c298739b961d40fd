// Package beside tells the sidecars of pods what they serve (package internal/beside), as
// Kubernetes says.
package beside

import (
	"context"
	"log/slog"
	"net"
	"net/netip"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/gateway/discovery/kubernetes"
	"github.com/isthmus-mesh/isthmus/internal/beside"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/tlsport"
)

// Server serves the streams of sidecars. Its methods may be called concurrently.
type Server struct {
	beside.UnimplementedBesideServer

	pods func() (kubernetes.Pods, <-chan struct{})
	log  *slog.Logger
}

// New returns a server of what pods says: all of them, nil while they are not known, and a
// channel that closes when that is past. A nil log discards.
func New(pods func() (kubernetes.Pods, <-chan struct{}), log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{pods: pods, log: log}
}

// Attach adds the service to a gRPC server with mutual TLS; an element of
// gateway/xds.Config.Services.
func (s *Server) Attach(to grpc.ServiceRegistrar) { beside.RegisterBesideServer(to, s) }

// Follow serves one sidecar. Called by gRPC.
func (s *Server) Follow(calls beside.Beside_FollowServer) error {
	id, from, err := caller(calls.Context())
	if err != nil {
		return err
	}
	said, failed := tlsport.Receive(calls.Context(), calls.Recv)
	var at []netip.Addr // nil: it has said nothing yet
	var told *beside.Ports
	for {
		pods, past := s.pods()
		if at != nil && pods != nil {
			if now := portsOf(pods, id.String(), at); told == nil || !proto.Equal(now, told) {
				if err := calls.Send(now); err != nil {
					return err
				}
				told = now
				s.log.Debug("told a sidecar what it serves", "peer_id", id.String(), "peer_addr", from.String(), "ports", len(now.GetPorts()))
			}
		}
		select {
		case <-past:
		case err := <-failed:
			return err
		case m := <-said:
			if at, err = placesOf(m, from); err != nil {
				return status.Error(codes.InvalidArgument, err.Error())
			}
			told = nil // every message is answered
		}
	}
}

// caller returns who calls, and from where.
func caller(ctx context.Context) (identity.ID, netip.Addr, error) {
	who, err := tlsport.CallerOf(ctx)
	if err != nil {
		return identity.ID{}, netip.Addr{}, status.Error(codes.Unauthenticated, err.Error())
	}
	if !who.ID.IsWorkload() {
		return identity.ID{}, netip.Addr{}, status.Error(codes.PermissionDenied, who.ID.String()+" is no workload, and serves nothing")
	}
	var from netip.Addr // invalid where there is no IP, as in tests
	if tcp, ok := who.Addr.(*net.TCPAddr); ok {
		from = tcp.AddrPort().Addr().Unmap()
	}
	return who.ID, from, nil
}
