package xds

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	gcp "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/sotw/v3"
	statusv3 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/drain"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/tlsport"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// ads is the gRPC service. Every stream gets a protocol engine of its own with an
// adsStream as its cache, which is how the engine's cache calls, which carry no
// identity, come to know whose they are.
type ads struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	server *Server
}

// DeltaAggregatedResources serves one incremental ADS stream.
func (a *ads) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return a.serve(stream.Context(), func(ctx context.Context, s *adsStream) error {
		return delta.NewServer(ctx, s, nil).DeltaStreamHandler(deltaInTurns{stream, a.server.turns}, resource.AnyType)
	})
}

// StreamAggregatedResources serves one state-of-the-world ADS stream.
func (a *ads) StreamAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return a.serve(stream.Context(), func(ctx context.Context, s *adsStream) error {
		return sotw.NewServer(ctx, s, nil, sotw.WithOrderedADS()).StreamHandler(wholeInTurns{stream, a.server.turns}, resource.AnyType)
	})
}

func (a *ads) serve(ctx context.Context, handle func(context.Context, *adsStream) error) error {
	srv := a.server
	who, err := tlsport.CallerOf(ctx)
	id := who.ID
	if err == nil && !id.IsWorkload() {
		err = fmt.Errorf("%s has no routes: they are for workloads", id)
	}
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	addr := who.Addr.String()
	log := srv.log.With("peer_id", id.String(), "peer_addr", addr)
	if !srv.cache.isReady() {
		srv.metrics.refused.Inc()
		return status.Error(codes.FailedPrecondition, "this gateway does not know its routes yet: try another one, or again")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	host, _, _ := net.SplitHostPort(addr) // without one, all of the identity share the bound
	s := &adsStream{server: srv, id: id, identity: id.String(), caller: id.String() + " " + host, log: log, end: cancel, names: map[string]int{}}
	if !srv.streams.enter(s) {
		return status.Error(codes.Unavailable, "this gateway is shutting down: use another one")
	}
	defer srv.streams.leave(s)
	defer srv.cache.leave(s)
	log.Debug("xds stream opened")
	err = handle(ctx, s)
	log.Debug("xds stream ended", "err", err)
	return err
}

// adsStream is one ADS stream: the cache that its protocol engine sees.
type adsStream struct {
	server   *Server
	id       identity.ID  // of the caller
	identity string       // the same as SPIFFE ID
	caller   string       // identity and IP address, which share maxNamesPerCaller
	entry    *drain.Entry // of the server's streams
	log      *slog.Logger
	end      context.CancelFunc

	// Guarded by the mutex of the server's streams.
	names map[string]int // subscribed to, by type URL

	// Guarded by the cache's mutex.
	doubts   [kinds]doubts
	withheld int // resources that doubts leave out, as counted last
}

// CreateDeltaWatch is called by the engine for every request. Part of
// go-control-plane's cache.ConfigWatcher.
func (s *adsStream) CreateDeltaWatch(req *gcp.DeltaRequest, sub gcp.Subscription, out chan gcp.DeltaResponse) (func(), error) {
	k := kindOf(req.GetTypeUrl(), xds.TakesHostNames(req.GetNode()))
	s.answered(k, req, false)
	sent := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: req.GetTypeUrl()}
	w := &watch{
		stream:  s,
		kind:    k,
		sub:     sub,
		initial: req.GetInitialResourceVersions(),
		first:   req.GetResponseNonce() == "",
		nonce:   sent.GetNonce,
		send: func(c change) bool {
			sent.Resources, sent.RemovedResources = c.send, c.removed
			resp := &gcp.DeltaPassthroughResponse{DeltaRequest: req, NextVersionMap: c.known, DeltaDiscoveryResponse: sent}
			select {
			case out <- resp:
				return true
			default:
				return false
			}
		},
	}
	if names := req.GetResourceNamesSubscribe(); len(names) > 0 {
		w.again = make(map[string]struct{}, len(names))
		for _, n := range names {
			w.again[n] = struct{}{}
		}
	}
	return s.open(w, req.GetTypeUrl(), req.GetResourceNamesSubscribe())
}

// CreateWatch is CreateDeltaWatch for the state-of-the-world protocol: an answer
// names everything that exists of what was asked for, and absence is silence.
func (s *adsStream) CreateWatch(req *gcp.Request, sub gcp.Subscription, out chan gcp.Response) (func(), error) {
	k := kindOf(req.GetTypeUrl(), xds.TakesHostNames(req.GetNode()))
	s.answered(k, req, true)
	sent := &discoveryv3.DiscoveryResponse{TypeUrl: req.GetTypeUrl()}
	w := &watch{
		stream: s,
		kind:   k,
		sub:    sub,
		whole:  true,
		first:  req.GetResponseNonce() == "",
		nonce:  sent.GetNonce,
		send: func(c change) bool {
			sent.VersionInfo, sent.Resources = wholeOf(c)
			resp := &gcp.PassthroughResponse{Request: req, ReturnedResources: c.known, DiscoveryResponse: sent}
			select {
			case out <- resp:
				return true
			default:
				return false
			}
		},
	}
	return s.open(w, req.GetTypeUrl(), req.GetResourceNames())
}

// answer is what a request says of the response before, in either protocol.
type answer interface {
	GetTypeUrl() string
	GetResponseNonce() string
	GetErrorDetail() *statusv3.Status
}

// answered takes what the client says of the response before. What it refuses is
// sent again in parts, until it is known which resource it cannot use; that one is
// logged once.
func (s *adsStream) answered(k kind, req answer, whole bool) {
	refused := req.GetErrorDetail()
	bad, of := s.server.cache.answer(s, k, req.GetResponseNonce(), refused != nil, whole)
	if refused == nil {
		return
	}
	s.server.metrics.nacks.Inc()
	reason := refused.GetMessage()
	reason = strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "")
	if bad == "" {
		s.log.Debug("an xds response is refused", "type", req.GetTypeUrl(), "resources", of, "err", reason)
		return
	}
	if !s.server.lines.Allow() { // isthmus_xds_resources_withheld tells of it
		return
	}
	s.log.Warn("a client refuses a resource: it is left out for it until it changes", "type", req.GetTypeUrl(), "resource", bad, "err", reason)
}

// open checks what w is about, remembers the names and hands w to the cache. The
// function that it returns cancels w.
func (s *adsStream) open(w *watch, typeURL string, names []string) (func(), error) {
	if err := s.checkNames(w, typeURL, names); err != nil {
		return nil, err
	}
	c := s.server.cache
	if w.kind != nothing && w.kind != policies && s.server.memory.remember(s.identity, names) {
		c.wake(s.identity)
	}
	return c.open(w), nil
}

// checkNames holds what w is about, and the names that are asked for now, to the
// bounds.
func (s *adsStream) checkNames(w *watch, typeURL string, names []string) error {
	if len(typeURL) > maxTypeURL {
		return status.Errorf(codes.InvalidArgument, "a type URL of %d bytes, at most %d", len(typeURL), maxTypeURL)
	}
	n := max(len(w.sub.SubscribedResources()), len(w.sub.ReturnedResources()))
	if n > maxNames {
		s.server.metrics.refused.Inc()
		return status.Errorf(codes.ResourceExhausted, "%d names on one stream, at most %d", n, maxNames)
	}
	if err := s.server.streams.allot(s, typeURL, n); err != nil {
		s.server.metrics.refused.Inc()
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	for _, name := range names {
		if len(name) > maxName {
			return status.Errorf(codes.InvalidArgument, "a resource name of %d bytes, at most %d", len(name), maxName)
		}
	}
	return nil
}
