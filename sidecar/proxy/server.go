package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// direction says on which side of the program a listener is.
type direction string

const (
	outbound direction = "outbound"
	inbound  direction = "inbound"
)

// server is one listener and where its connections go.
type server struct {
	p           *Proxy
	direction   direction
	address     string
	destination mesh.Destination
	label       string       // of the destination, for logs and metrics
	listener    net.Listener // set by bind
	log         *slog.Logger
	metrics     *boundMetrics
	mismatch    mismatch
	slots       chan struct{} // bounds the open connections

	// serve owns the connection; the accept loop waits for nothing of it.
	serve func(*client)
	// service returns where connections go. It may wait for a route.
	service   func(context.Context) (*upstream.Service, error)
	rewrite   http1.RequestRewrite // what every request is given
	status    string               // our name in Proxy-Status
	parkAfter time.Duration        // how long an idle connection keeps its memory
	retries   upstream.RetryPolicy
}

// client is one accepted connection. It belongs to one goroutine; an upload reads
// from it as well while it lasts.
type client struct {
	*tracked
	relay.Conn        // what is read and written: the TLS connection or the accepted one
	peer       string // the SPIFFE ID that was proved, empty without TLS
}

// accept runs until the listener is closed.
func (s *server) accept() {
	for {
		s.slots <- struct{}{} // beyond the bound, callers wait in the kernel's queue
		conn, err := s.listener.Accept()
		if err != nil {
			<-s.slots
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// No descriptors, most likely: keep what runs, shed what comes.
			s.log.Warn("cannot accept: raise the limit of open files if this persists", "err", err)
			select {
			case <-time.After(acceptPause):
			case <-s.p.ctx.Done():
			}
			continue
		}
		k := s.p.conns.add(conn)
		if k == nil {
			<-s.slots
			_ = conn.Close()
			continue
		}
		s.p.conns.running.Go(func() {
			defer func() {
				_ = conn.Close() // a second time, mostly
				s.p.conns.remove(k)
				<-s.slots
			}()
			s.serve(&client{tracked: k, Conn: conn.(*net.TCPConn)})
		})
	}
}

// SetReadDeadline resolves what client would inherit twice.
func (c *client) SetReadDeadline(t time.Time) error { return c.tracked.conn.SetReadDeadline(t) }

// abort closes the connection such that the client sees an error.
func (c *client) abort() { relay.Abort(c.tracked.conn) }

// explicit makes the listener for one destination.
func (p *Proxy) listenExplicit(e Explicit) *server {
	s := p.toward(e.Destination, e.Destination.String())
	s.address = e.Listen
	s.serve = func(c *client) {
		service, err := s.service(p.ctx)
		rewrite := s.rewrite
		rewrite.ForwardedFor, rewrite.Outside = outsider(c.tracked.conn.RemoteAddr())
		s.serveOn(c, service, rewrite, err)
	}
	return s
}

// toward makes what serves connections to d, without a listener of its own.
func (p *Proxy) toward(d mesh.Destination, label string) *server {
	s := &server{
		p:           p,
		direction:   outbound,
		destination: d,
		label:       label,
		rewrite:     http1.RequestRewrite{Host: d.Host(), Proto: "http"},
		status:      outboundStatus,
		retries:     upstream.DefaultRetries(),
	}
	s.finish()
	s.service = s.routed
	return s
}

// serveOn serves c by the protocol of service, unless there is none for the reason
// err: then an HTTP client is told why, and any other refused by its first byte or
// soon.
func (s *server) serveOn(c *client, service *upstream.Service, rewrite http1.RequestRewrite, err error) {
	if err == nil && service.Protocol() == mesh.TCP {
		s.serveTCP(c, service)
		return
	}
	s.serveHTTP(c, rewrite, err)
}

func (s *server) finish() {
	s.log = s.p.log.With("service", s.label, "direction", string(s.direction))
	s.metrics = s.p.metrics.resolve(s.direction, s.label)
	s.parkAfter = parkAfter
	s.slots = make(chan struct{}, maxConnections)
}

// routed returns the destination's upstream, waiting for its route when the
// sidecar does not have it yet.
func (s *server) routed(ctx context.Context) (*upstream.Service, error) {
	if service := s.p.cfg.Upstreams.Service(s.destination); service != nil {
		return service, nil
	}
	ctx, cancel := context.WithTimeout(ctx, routeTimeout)
	defer cancel()
	if _, err := s.p.cfg.Routes.Wait(ctx, s.destination); err != nil {
		return nil, err
	}
	// Upstreams have followed before the store said so.
	if service := s.p.cfg.Upstreams.Service(s.destination); service != nil {
		return service, nil
	}
	return nil, fmt.Errorf("route to %s: it has just been withdrawn", s.destination)
}
