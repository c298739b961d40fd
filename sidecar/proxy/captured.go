package proxy

import (
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
// the program makes to virtual addresses. The program does not know.
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

	mu      sync.Mutex
	servers map[mesh.Destination]*server // of destinations that had a route once

	served, unknown, unnamed, unrouted prometheus.Counter
}

// listenCaptured makes the listeners for captured connections.
func (p *Proxy) listenCaptured(cfg Captured) []*server {
	total := p.metrics.captured
	t := &capturedServers{
		p: p, cfg: cfg, servers: make(map[mesh.Destination]*server),
		served: total.WithLabelValues("served"), unknown: total.WithLabelValues("unknown"),
		unnamed: total.WithLabelValues("unnamed"), unrouted: total.WithLabelValues("unrouted"),
	}
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
	d, ok := t.cfg.Names(original.Addr())
	if !ok {
		t.unnamed.Inc()
		t.p.log.Info("captured connection to an address that is nobody's: was it kept from another sidecar, or before its file of addresses was removed?",
			"addr", original.String())
		c.Abort()
		return
	}
	d.Port = original.Port()
	s := t.known(d)
	var service *upstream.Service
	err := t.offered(d)
	if err == nil {
		service, err = s.service(t.p.ctx)
	}
	if err != nil {
		t.unrouted.Inc()
		t.refuse(c, s, err)
		return
	}
	t.served.Inc()
	t.keep(s).drive(c, service.Protocol(), service, s.rewrite)
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

// known returns the server of d: the one that is kept, or one that counts among the
// others. A port that does not exist must leave no metrics behind.
func (t *capturedServers) known(d mesh.Destination) *server {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, ok := t.servers[d]; ok {
		return s
	}
	s := t.p.toward(d, otherDestinations)
	s.log = t.p.log.With("service", d.String(), "direction", string(outbound))
	return s
}

// keep returns the server under whose own name connections to s's destination count
// from now on, or s when there are too many.
func (t *capturedServers) keep(s *server) *server {
	t.mu.Lock()
	defer t.mu.Unlock()
	if kept, ok := t.servers[s.destination]; ok {
		return kept
	}
	if len(t.servers) >= maxCaptured {
		return s
	}
	kept := t.p.toward(s.destination, s.destination.String())
	t.servers[s.destination] = kept
	return kept
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
