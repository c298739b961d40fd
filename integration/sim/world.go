package sim

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

const (
	tunnelPort = 7443
	localRTT   = 500 * time.Microsecond // within a cluster
	dialLimit  = 10 * time.Second

	// lingerTime is what memberlist's probes and QUIC's timers may still take
	// after their owners have ended; virtual time stops with the test.
	lingerTime = 2 * time.Minute
)

// world is a mesh of gateways on a simulated network. Its methods are called
// by one goroutine.
type world struct {
	t        testing.TB
	net      *network
	pki      *identitytest.Mesh
	clusters []*cluster
	log      *slog.Logger
}

// cluster is one cluster of the world.
type cluster struct {
	name     mesh.ClusterName
	workload *identity.Source // ends the TLS of every instance
	services services
	gateways []*gatewayProcess
}

// services is the source of what a cluster offers.
type services struct {
	state.Store[[]discovery.Service]
}

// Run is part of discovery.Source.
func (*services) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// gatewayProcess is one gateway, which can be killed and started again.
type gatewayProcess struct {
	id      mesh.GatewayID
	addr    *net.UDPAddr
	gateway *gateway.Gateway // nil while it is dead
	mesh    *listener
	kill    func()
}

func newWorld(t testing.TB, log *slog.Logger) *world {
	return &world{t: t, net: newNetwork(), pki: identitytest.New(t, "sim.example"), log: log}
}

func (w *world) close() {
	for _, c := range w.clusters {
		for _, g := range c.gateways {
			if g.gateway != nil {
				g.kill()
			}
		}
	}
	time.Sleep(lingerTime)
}

func (w *world) cluster(name string) (*cluster, error) {
	for _, c := range w.clusters {
		if string(c.name) == name {
			return c, nil
		}
	}
	return nil, fmt.Errorf("no cluster %q", name)
}

func (w *world) gateway(name string) (*gatewayProcess, error) {
	for _, c := range w.clusters {
		for _, g := range c.gateways {
			if string(g.id.Name) == name {
				return g, nil
			}
		}
	}
	return nil, fmt.Errorf("no gateway %q", name)
}

// addCluster makes a cluster with n gateways and starts them.
func (w *world) addCluster(name mesh.ClusterName, n int, rtt time.Duration) error {
	if err := mesh.CheckLabel(string(name)); err != nil {
		return err
	}
	c := &cluster{name: name, workload: w.pki.Workload(name, "shop", "any")}
	c.services.Set([]discovery.Service{})
	number := len(w.clusters) + 1
	w.net.setRTT(byte(number), rtt)
	w.clusters = append(w.clusters, c)
	for i := range n {
		g := &gatewayProcess{
			id:   mesh.GatewayID{Cluster: name, Name: mesh.GatewayName(fmt.Sprintf("%s-%d", name, i+1))},
			addr: &net.UDPAddr{IP: net.IPv4(10, 0, byte(number), byte(i+1)), Port: tunnelPort},
		}
		c.gateways = append(c.gateways, g)
		if err := w.start(g); err != nil {
			return err
		}
	}
	return nil
}

// start runs a gateway that is not running.
func (w *world) start(g *gatewayProcess) error {
	if g.gateway != nil {
		return fmt.Errorf("%s runs", g.id)
	}
	c, err := w.cluster(string(g.id.Cluster))
	if err != nil {
		return err
	}
	cfg := &config.Gateway{
		Cluster: g.id.Cluster, Name: g.id.Name, Advertise: g.addr.String(),
		MeshAddress: fmt.Sprintf("%s:15443", g.addr.IP), Connections: 2,
		Listen: config.GatewayListen{Tunnel: g.addr.String(), Mesh: "mesh", XDS: "xds", Admin: "admin"},
		Limits: config.GatewayLimits{Paths: 1000, PathsPerSource: 1000},
	}
	if first := w.clusters[0].gateways[0]; first != g {
		cfg.Join = []string{first.addr.String()}
	}
	socket := w.net.listen(g.addr)
	gw, err := gateway.New(cfg, gateway.Options{
		Log: w.log.With("gateway", g.id), Identity: w.pki.Gateway(g.id.Cluster, g.id.Name), Source: &c.services,
		ListenPacket: func(string) (net.PacketConn, error) { return socket, nil },
		Listen: func(_, address string) (net.Listener, error) {
			l := newListener(fmt.Sprintf("%s %s", g.id, address))
			if address == "mesh" {
				g.mesh = l
			}
			return l, nil
		},
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			return nil, errors.New("no names in virtual time")
		},
		Dial: func(_ context.Context, _, _ string) (net.Conn, error) {
			near, far := newConnPair(g.id.String(), "instance")
			go echo(far, c.workload)
			return near, nil
		},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := gw.Run(ctx); err != nil {
			w.t.Errorf("%s: %v", g.id, err)
		}
	})
	g.gateway = gw
	g.kill = func() {
		// The network goes first: a killed process says no goodbye.
		w.net.remove(g.addr)
		cancel()
		running.Wait()
		g.gateway = nil
	}
	synctest.Wait() // until it serves
	return nil
}

// echo is an instance behind a sidecar: it ends the TLS and sends back what comes.
func echo(c net.Conn, id *identity.Source) {
	defer c.Close()
	t := tls.Server(c, id.ServerTLS(identitytest.AnyWorkload()))
	_ = t.SetDeadline(time.Now().Add(dialLimit))
	if _, err := io.Copy(t, t); err != nil {
		return // the gateway closed after its answer
	}
	_ = t.Close()
}

// dial asks a cluster's first gateway for a service and speaks mTLS through it.
func (w *world) dial(c *cluster, service mesh.ServiceName) (string, error) {
	g := c.gateways[0]
	if g.gateway == nil {
		return "", fmt.Errorf("%s is dead", g.id)
	}
	conn, err := g.mesh.dial("caller")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(dialLimit))
	host := mesh.Destination{Service: service, Port: 80}.String()
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", host); err != nil {
		return "", err
	}
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		_, details, _ := strings.Cut(resp.Header.Get("Proxy-Status"), "details=")
		return fmt.Sprintf("%d %s", resp.StatusCode, strings.Trim(details, `"`)), nil
	}
	caller := w.pki.Workload(c.name, "shop", "caller")
	end := tls.Client(&buffered{conn, br}, caller.ClientTLS(service.Host(), identitytest.AnyWorkload()))
	if _, err := end.Write([]byte("ping")); err != nil {
		return "", err
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(end, got); err != nil {
		return "", err
	}
	if string(got) != "ping" {
		return "", errors.New("other bytes came back")
	}
	return "ok in " + resp.Header.Get("Isthmus-Cluster"), nil
}

// buffered is a conn whose first bytes were read already.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// unsettled returns what somebody does not know yet, given who can reach whom.
func (w *world) unsettled() string {
	for _, c := range w.clusters {
		for _, g := range c.gateways {
			if g.gateway == nil {
				continue
			}
			if m := w.missingAt(c, g); m != "" {
				return fmt.Sprintf("%s: %s", g.id, m)
			}
		}
	}
	return ""
}

func (w *world) missingAt(c *cluster, g *gatewayProcess) string {
	s := g.gateway.Status()
	if !s.Ready {
		return "not ready"
	}
	for _, other := range w.clusters {
		if w.net.partitioned(c.number(w), other.number(w)) {
			continue
		}
		for _, peer := range other.gateways {
			i := slices.IndexFunc(s.Gateways, func(p status.Peer) bool { return p.ID == peer.id })
			switch {
			case peer.gateway == nil && i >= 0 && (s.Gateways[i].Tunnel == "up" || s.Gateways[i].Gossip == "alive"):
				return fmt.Sprintf("%s is dead and shown alive", peer.id)
			case peer.gateway != nil && (i < 0 || s.Gateways[i].Tunnel == "down" || s.Gateways[i].Gossip != "alive"):
				return fmt.Sprintf("%s is not seen", peer.id)
			}
		}
		for _, svc := range other.services.Load() {
			port := &svc.Ports[0]
			if !port.Exported && other != c || !other.alive() {
				continue
			}
			want := 0
			for _, e := range port.Endpoints {
				if e.Ready {
					want++
				}
			}
			if got := w.readyAt(s, svc.Name, other.name); got != want {
				return fmt.Sprintf("%s in %s: %d ready instead of %d", svc.Name, other.name, got, want)
			}
		}
	}
	return ""
}

func (w *world) readyAt(s *status.Gateway, name mesh.ServiceName, in mesh.ClusterName) int {
	for _, svc := range s.Services {
		for _, c := range svc.Clusters {
			if svc.Service == name && c.Cluster == in && c.Reachable {
				return int(c.Ready)
			}
		}
	}
	return -1
}

func (c *cluster) number(w *world) byte { return byte(slices.Index(w.clusters, c) + 1) }

func (c *cluster) alive() bool {
	return slices.ContainsFunc(c.gateways, func(g *gatewayProcess) bool { return g.gateway != nil })
}

// network routes packets between gateways, with latency and partitions. The
// third byte of an address is its cluster's number.
type network struct {
	mu    sync.Mutex
	nodes map[string]*node
	rtt   map[byte]time.Duration
	cut   map[[2]byte]bool
}

// node is one address: its socket and the link that delays what it receives.
type node struct {
	link *simnet.SimulatedLink
	conn *simnet.SimConn
}

func newNetwork() *network {
	return &network{nodes: map[string]*node{}, rtt: map[byte]time.Duration{}, cut: map[[2]byte]bool{}}
}

func clusterOf(a net.Addr) byte { return a.(*net.UDPAddr).IP.To4()[2] }

func (n *network) setRTT(cluster byte, rtt time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rtt[cluster] = rtt
}

func (n *network) latency(p simnet.Packet) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	from, to := clusterOf(p.From), clusterOf(p.To)
	if from == to {
		return localRTT / 2
	}
	return (n.rtt[from] + n.rtt[to] + localRTT) / 2
}

func (n *network) partition(a, b byte, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]byte{a, b}], n.cut[[2]byte{b, a}] = cut, cut
}

func (n *network) partitioned(a, b byte) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[[2]byte{a, b}]
}

// listen gives an address a socket.
func (n *network) listen(addr *net.UDPAddr) net.PacketConn {
	link := &simnet.SimulatedLink{LatencyFunc: n.latency, UploadPacket: n}
	c := simnet.NewSimConn(addr, link) // registers itself with the link
	link.Start()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[addr.String()] = &node{link, c}
	return c
}

// remove takes an address off the network.
func (n *network) remove(addr *net.UDPAddr) {
	n.mu.Lock()
	gone := n.nodes[addr.String()]
	delete(n.nodes, addr.String())
	n.mu.Unlock()
	if gone != nil {
		_ = gone.link.Close()
	}
}

// SendPacket and AddNode make network the router of every link.
func (n *network) SendPacket(p simnet.Packet) error {
	n.mu.Lock()
	to, ok := n.nodes[p.To.String()]
	cut := n.cut[[2]byte{clusterOf(p.From), clusterOf(p.To)}]
	n.mu.Unlock()
	if !ok || cut {
		return nil // lost, as packets are
	}
	to.link.RecvPacket(p)
	return nil
}

// AddNode is unused: links are added by listen.
func (n *network) AddNode(net.Addr, simnet.PacketReceiver) {}
