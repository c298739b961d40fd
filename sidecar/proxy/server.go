package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/drain"
	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/liveness"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/osuser"
	"github.com/isthmus-mesh/isthmus/internal/traffic"
	"github.com/isthmus-mesh/isthmus/sidecar/exchange"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// direction says on which side of the program a listener is.
type direction string

const (
	outbound direction = "outbound"
	inbound  direction = "inbound"
)

// client is one accepted connection.
type client = exchange.Client

// server is one listener and where its connections go.
type server struct {
	p           *Proxy
	direction   direction
	address     string
	destination mesh.Destination
	label       string // of the destination, for logs and metrics
	queue       *queue // where it listens, set by bind

	leads atomic.Pointer[server] // of an explicit listener: who serves its connections

	user *osuser.User // whose programs alone are served; nil: anybody's

	// serve owns the connection; the accept loop waits for nothing of it.
	serve func(*client)
	// service returns where connections go. It may wait for a route.
	service func(context.Context) (*upstream.Service, error)
	rewrite http1.RequestRewrite // what every request is given
	retries upstream.RetryPolicy
	bounds  exchange.Timeouts
	access  *exchange.Admission // who may call; nil: everybody

	// Made of the above by finish.
	log     *slog.Logger
	metrics *boundMetrics
	http    *exchange.Server
}

// driver serves a client whose connection carries one protocol.
type driver func(s *server, c *client, to *upstream.Service, rewrite http1.RequestRewrite)

// drivers says who serves which protocol.
func drivers() map[mesh.Protocol]driver {
	return map[mesh.Protocol]driver{
		mesh.HTTP: (*server).serveHTTP, mesh.HTTP2: (*server).serveHTTP, mesh.GRPC: (*server).serveHTTP,
		mesh.TCP: (*server).serveTCP, mesh.Auto: (*server).serveAuto,
	}
}

// accept runs until the listener is closed.
func (s *server) accept() {
	cfg := drain.AcceptConfig{Max: maxConnections, Short: s.p.Shed, Log: s.p.log}
	if s.direction == inbound {
		cfg.Max, cfg.Strangers = limit.Part(inboundPart, maxConnections), s.p.strangers
	}
	s.conns().AcceptRest(s.p.ctx, s.queue, cfg, func(conn net.Conn, who *limit.Stranger, over func()) {
		if s.direction == inbound {
			liveness.KeepAlive(conn)
		}
		c := conn.(*accepted).client
		c.Stranger = who
		s.serve(c)
		if c.Rest == nil {
			over()
			return
		}
		c.Rest(over)
	})
}

// conns are the open connections of its direction.
func (s *server) conns() *drain.Set { return s.p.conns[s.direction] }

// toward makes what serves connections to d, without a listener of its own.
func (p *Proxy) toward(d mesh.Destination, label string) *server {
	s := &server{
		p:           p,
		direction:   outbound,
		destination: d,
		label:       label,
		rewrite:     http1.RequestRewrite{Host: d.Host(), Proto: "http"},
		retries:     upstream.DefaultRetries(),
		bounds:      exchange.DefaultTimeouts(),
	}
	if p.cfg.Timeouts != nil {
		s.bounds = p.cfg.Timeouts(d)
	}
	s.service = s.routed
	s.finish()
	if p.cfg.Routes != nil {
		s.http.Routing = &exchange.Routing{
			Destination: d,
			Rules:       func() *traffic.Rules { return p.cfg.Routes.Load().Rules(d) },
			Backend:     p.routed,
			Mirror:      p.mirrors.send,
		}
	}
	return s
}

// finish makes what follows from the other fields.
func (s *server) finish() {
	s.log = s.p.log.With("service", s.label, "direction", string(s.direction))
	s.metrics = s.p.metrics.bind(s.direction, s.label)
	s.http = &exchange.Server{
		Name: exchange.InboundName, Service: s.service, Retries: s.retries, Timeouts: s.bounds, Relays: &s.p.relays,
		Conns: s.conns(), Waiting: &s.p.waiting, Admission: s.access, Park: exchange.DefaultPark, Unread: s.p.cfg.Unread, Log: s.log, Metrics: s.metrics.BoundMetrics,
	}
	if s.direction == outbound {
		s.http.Name, s.http.Outbound = exchange.OutboundName, true
		return
	}
	s.http.Places = s.p.callers
}

// drive serves c by a protocol; what is not in the table is opaque bytes.
func (s *server) drive(c *client, protocol mesh.Protocol, to *upstream.Service, rewrite http1.RequestRewrite) {
	run, ok := s.p.drivers[protocol]
	if !ok {
		run = (*server).serveTCP
	}
	run(s, c, to, rewrite)
}

// serveHTTP serves c's requests, each to where it then belongs.
func (s *server) serveHTTP(c *client, _ *upstream.Service, rewrite http1.RequestRewrite) {
	s.http.Serve(s.p.ctx, c, rewrite, nil)
}

// refuse tells an HTTP client why it cannot be served; any other is refused by its
// first byte or soon.
func (s *server) refuse(c *client, rewrite http1.RequestRewrite, why error) {
	s.http.Serve(s.p.ctx, c, rewrite, why)
}

// routed returns the destination's upstream.
func (s *server) routed(ctx context.Context) (*upstream.Service, error) {
	return s.p.routed(ctx, s.destination)
}

// routed returns the upstream of d, waiting for its route when the
// sidecar does not have it yet.
func (p *Proxy) routed(ctx context.Context, d mesh.Destination) (*upstream.Service, error) {
	if service := p.cfg.Upstreams.Service(d); service != nil {
		return service, nil
	}
	ctx, cancel := context.WithTimeout(ctx, routeTimeout)
	defer cancel()
	_, err := p.cfg.Routes.Wait(ctx, d)
	if errors.Is(err, routes.ErrAbsent) {
		return nil, absent(err)
	}
	if err != nil {
		return nil, err
	}
	// Upstreams have followed before the store said so.
	if service := p.cfg.Upstreams.Service(d); service != nil {
		return service, nil
	}
	return nil, fmt.Errorf("route to %s: it has just been withdrawn", d)
}

// absent is the reply when there is no such destination.
func absent(why error) *exchange.LocalReply {
	return &exchange.LocalReply{Status: 404, Reason: connect.DestinationNotFound, Detail: why.Error()}
}
