package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// Captured are the listeners to which interception sends the connections that
// the program makes to virtual addresses, and to others that lead to services. The program does not know.
type Captured struct {
	// Listen are host:port, usually 127.0.0.1:15001 and [::1]:15001.
	Listen []string
	// Original returns where the program wanted to go with an accepted connection;
	// false: nobody has captured it. It is called once per connection and must not
	// block.
	Original func(net.Conn) (netip.AddrPort, bool)
	// Accelerate returns what to use in place of an accepted connection, of which
	// nothing has been read. Nil: the connection itself.
	Accelerate func(*net.TCPConn) relay.Conn
	// Names returns whose virtual address that is (its Port is ignored); false:
	// nobody's. It must not block.
	Names func(netip.Addr) (mesh.Destination, bool)
	// Direct returns whom another address leads to, for which it may wait a moment; false: it is
	// not the mesh's, and the connection goes there as if nobody had captured it. Nil: nothing else
	// is captured.
	Direct func(context.Context, netip.AddrPort) (routes.Direct, bool)
}

const (
	// maxCaptured bounds the destinations that have metrics of their own. A program
	// may use more; they are one in the metrics.
	maxCaptured = 1024
	// otherDestinations is the label of what has none of its own.
	otherDestinations = "other"
)

func (c *Captured) validate() error {
	var faults []error
	if len(c.Listen) == 0 {
		faults = append(faults, errors.New("captured: no address to listen on"))
	}
	faults = append(faults, checkHostPorts("captured", c.Listen...))
	if c.Original == nil || c.Names == nil {
		faults = append(faults, errors.New("captured: Original and Names are needed"))
	}
	return errors.Join(faults...)
}

// capturedServers is what the listeners for captured connections share.
type capturedServers struct {
	p   *Proxy
	cfg Captured

	others *server // lets by what is not the mesh's

	mu      sync.Mutex
	servers map[routes.Direct]*server // of destinations that had a route once

	served, passed, unknown, unnamed, unrouted prometheus.Counter
}

// listenCaptured makes the listeners for captured connections.
func (p *Proxy) listenCaptured(cfg Captured) []*server {
	total := p.metrics.captured
	t := &capturedServers{
		p: p, cfg: cfg, servers: make(map[routes.Direct]*server),
		served: total.WithLabelValues("served"), passed: total.WithLabelValues("passed"), unknown: total.WithLabelValues("unknown"),
		unnamed: total.WithLabelValues("unnamed"), unrouted: total.WithLabelValues("unrouted"),
	}
	t.others = p.toward(mesh.Destination{}, otherDestinations)
	var listeners []*server
	for _, address := range cfg.Listen {
		listeners = append(listeners, &server{
			p: p, direction: outbound, address: address, label: "captured connections",
			serve: t.serve,
		})
	}
	return listeners
}

// serve goes on as an explicit listener for the destination would, once it is known.
func (t *capturedServers) serve(c *client) {
	original, ok := t.cfg.Original(c.Accepted)
	if !ok {
		t.unknown.Inc()
		t.p.log.Debug("connection to the captured port that nobody captured", "peer_addr", c.PeerAddr())
		c.Abort()
		return
	}
	if t.cfg.Accelerate != nil {
		c.Conn = t.cfg.Accelerate(c.Accepted.(*net.TCPConn))
	}
	var to routes.Direct
	if to.Destination, ok = t.cfg.Names(original.Addr()); ok {
		to.Destination.Port = original.Port()
	} else if t.cfg.Direct != nil {
		if to, ok = t.cfg.Direct(t.p.ctx, original); !ok {
			t.pass(c, original)
			return
		}
	}
	if !ok {
		t.unnamed.Inc()
		t.p.log.Info("captured connection to an address that is nobody's: was it kept from another sidecar, or before its file of addresses was removed?",
			"addr", original.String())
		c.Abort()
		return
	}
	s := t.known(to)
	var service *upstream.Service
	err := t.offered(to.Destination)
	if err == nil {
		service, err = s.service(t.p.ctx)
	}
	if err != nil {
		t.unrouted.Inc()
		t.refuse(c, s, err)
		return
	}
	t.served.Inc()
	t.keep(to, s).drive(c, service.Protocol(), service, s.rewrite)
}

// offered returns an error when the service is known not to have d's port. A program
// that tries many ports must not make us subscribe to each of them.
func (t *capturedServers) offered(d mesh.Destination) error {
	known, ok := t.p.cfg.Routes.Load().Lookup(mesh.Destination{Service: d.Service, Cluster: d.Cluster})
	if !ok || len(known.Ports) == 0 {
		return nil // not known
	}
	var ports []string
	for _, p := range known.Ports {
		if p.Number == d.Port {
			return nil
		}
		ports = append(ports, strconv.Itoa(int(p.Number)))
	}
	return absent(fmt.Errorf("route to %s: the service has port %s: %w", d, strings.Join(ports, ", "), routes.ErrAbsent))
}

// known returns the server of what is meant: the one that is kept, or one that counts among the
// others. A port that does not exist must leave no metrics behind.
func (t *capturedServers) known(to routes.Direct) *server {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, ok := t.servers[to]; ok {
		return s
	}
	s := t.toward(to, otherDestinations)
	s.log = t.p.log.With("service", to.Destination.String(), "direction", string(outbound))
	return s
}

// keep returns the server under whose own name connections to the destination count
// from now on, or s when there are too many.
func (t *capturedServers) keep(to routes.Direct, s *server) *server {
	t.mu.Lock()
	defer t.mu.Unlock()
	if kept, ok := t.servers[to]; ok {
		return kept
	}
	if len(t.servers) >= maxCaptured {
		return s
	}
	kept := t.toward(to, to.Destination.String())
	t.servers[to] = kept
	return kept
}

// toward makes what serves connections to a service, or to one instance of it: then the rules of
// where requests go, which are the service's, have no say.
func (t *capturedServers) toward(to routes.Direct, label string) *server {
	s := t.p.toward(to.Destination, label)
	if to.Instance != "" {
		s.retries = upstream.InstanceRetries(to.Instance)
		s.http.Retries, s.http.Routing = s.retries, nil
	}
	return s
}

// pass lets a connection go where it wanted.
func (t *capturedServers) pass(c *client, to netip.AddrPort) {
	t.passed.Inc()
	t.others.passOn(c, to, func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, passTimeout)
		defer cancel()
		return new(net.Dialer).DialContext(ctx, "tcp", to.String())
	})
}

// refuse ends a connection for which there is no route. An HTTP client is told why;
// any other one is reset, as if nobody listened at that port.
func (t *capturedServers) refuse(c *client, s *server, why error) {
	if sniff(c, sniffLimit).isHTTP() {
		s.refuse(c, s.rewrite, why)
		return
	}
	s.log.Info("captured connection refused", "peer_addr", c.PeerAddr(), "err", why)
	c.Abort()
}
