package federation

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// network is a simulated one: packets take latency and are lost between
// addresses that are cut from each other.
type network struct {
	latency time.Duration

	mu    sync.Mutex
	ports map[string]*simnet.SimConn
	cut   map[[2]string]bool
}

func newNetwork(latency time.Duration) *network {
	return &network{latency: latency, ports: map[string]*simnet.SimConn{}, cut: map[[2]string]bool{}}
}

// SendPacket implements [simnet.Router].
func (n *network) SendPacket(p simnet.Packet) error {
	n.mu.Lock()
	to, lost := n.ports[p.To.String()], n.cut[[2]string{p.From.String(), p.To.String()}]
	n.mu.Unlock()
	if to != nil && !lost {
		time.AfterFunc(n.latency, func() { to.RecvPacket(p) })
	}
	return nil
}

// AddNode implements [simnet.Router]; listen does it.
func (n *network) AddNode(net.Addr, simnet.PacketReceiver) {}

func (n *network) listen(addr string) (net.PacketConn, error) {
	udp, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	c := simnet.NewBlockingSimConn(udp, n)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports[addr] = c
	return c, nil
}

// partition cuts two gateways from each other, or heals that.
func (n *network) partition(a, b *node, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]string{a.addr, b.addr}] = cut
	n.cut[[2]string{b.addr, a.addr}] = cut
}

// unplug makes a gateway's packets vanish, as when its machine dies.
func (n *network) unplug(g *node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.ports, g.addr)
}

// world is a mesh of gateways within a test.
type world struct {
	t    *testing.T
	mesh *identitytest.Mesh
	net  *network // nil: loopback
}

func newWorld(t *testing.T, n *network) *world {
	return &world{t: t, mesh: identitytest.New(t, "mesh.example"), net: n}
}

// node is a running gateway: a tunnel, the server on it, and the federation.
type node struct {
	*Federation
	t      *testing.T
	id     mesh.GatewayID
	addr   string
	tunnel *tunnel.Node
	once   sync.Once
	end    func()
}

// plan is what makes a gateway, so that it can be started again.
type plan struct {
	name, addr string
	join       []string
	state      string
	identity   *identity.Source // nil: the right one
	wrap       func(http.Handler) http.Handler
	log        slog.Handler // nil: silent
	metrics    prometheus.Registerer
	slow       time.Duration // how late the federation runs after the tunnel
}

// start runs a gateway until the test ends. On loopback an empty addr is any port.
func (w *world) start(p plan) *node {
	w.t.Helper()
	id, err := mesh.ParseGatewayID(p.name)
	if err != nil {
		w.t.Fatal(err)
	}
	n := &node{t: w.t, id: id, addr: p.addr}
	src := p.identity
	if src == nil {
		src = w.mesh.Gateway(id.Cluster, id.Name)
	}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("ISTHMUS_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("gateway", p.name)
	}
	if p.log != nil {
		log = slog.New(p.log)
	}
	var conn net.PacketConn
	if w.net != nil {
		conn, err = w.net.listen(p.addr)
	} else {
		conn, err = net.ListenPacket("udp", cmpOr(p.addr, "127.0.0.1:0"))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	n.addr = conn.LocalAddr().String()
	n.tunnel, err = tunnel.New(tunnel.Config{
		Self: id, Identity: src, ResetKey: [32]byte{7}, Log: log, Metrics: p.metrics,
		Listen: func() (net.PacketConn, error) { return conn, nil },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	n.Federation, err = New(Config{
		Self: id, Advertise: n.addr, MeshAddress: "10.1.1.1:15443", Join: p.join,
		Tunnel: n.tunnel, Identity: src, StatePath: p.state, Log: log,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	h := n.Handler()
	if p.wrap != nil {
		h = p.wrap(h)
	}
	srv := &http.Server{Handler: h, ConnContext: tunnel.ConnContext, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	run := func(what string, f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				w.t.Errorf("%s of %s: %v", what, id, err)
			}
		})
	}
	run("tunnel", func() error { return n.tunnel.Run(ctx) })
	run("federation", func() error {
		time.Sleep(p.slow)
		return n.Run(ctx)
	})
	wg.Go(func() { _ = srv.Serve(n.tunnel.Listener()) })
	n.end = func() {
		n.once.Do(func() {
			cancel()
			srv.Close()
			wg.Wait()
		})
	}
	w.t.Cleanup(n.end)
	return n
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// leave shuts a gateway down as SIGTERM does.
func (n *node) leave() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := n.Federation.Shutdown(ctx); err != nil {
		n.t.Errorf("leave %s: %v", n.id, err)
	}
	if err := n.tunnel.Shutdown(ctx); err != nil {
		n.t.Errorf("end the tunnels of %s: %v", n.id, err)
	}
	n.end()
}

// await returns the first view for which ok is true, and fails the test when none
// comes in time, virtual or real.
func (n *node) await(what string, within time.Duration, ok func(*View) bool) *View {
	n.t.Helper()
	late := time.NewTimer(within)
	defer late.Stop()
	for {
		v, past := n.View()
		if ok(v) {
			return v
		}
		select {
		case <-past:
		case <-late.C:
			n.t.Fatalf("%s: not within %v: %s\n%s", n.id, within, what, show(v))
		}
	}
}

func show(v *View) string {
	var b []byte
	for _, g := range v.Gateways {
		b = append(b, "gateway "+g.ID.String()+" "+g.Advertise...)
		if g.Alive {
			b = append(b, " alive"...)
		}
		if g.Tunnel.Up {
			b = append(b, " up"...)
		}
		b = append(b, '\n')
	}
	for _, o := range v.Origins {
		b = append(b, "origin "+o.ID.String()+" "+o.Version.String()+" "+o.Digest.String()...)
		if o.Stale {
			b = append(b, " stale"...)
		}
		for _, e := range o.Records {
			b = append(b, " "+e.Service.String()...)
		}
		b = append(b, '\n')
	}
	return string(b)
}

// Conditions for await.

func sees(ids ...*node) func(*View) bool {
	return func(v *View) bool {
		for _, id := range ids {
			g := gatewayOf(v, id.id)
			if g == nil || !g.Alive || id.id != v.Self && !g.Tunnel.Up {
				return false
			}
		}
		return true
	}
}

func offers(service string, clusters ...mesh.ClusterName) func(*View) bool {
	name, err := mesh.ParseServiceName(service)
	if err != nil {
		panic(err)
	}
	return func(v *View) bool {
		var got []mesh.ClusterName
		for _, c := range v.Exports(name) {
			if len(c.Gateways) > 0 {
				got = append(got, c.Cluster)
			}
		}
		if len(got) != len(clusters) {
			return false
		}
		for i := range got {
			if got[i] != clusters[i] {
				return false
			}
		}
		return true
	}
}

// gatewayOf and originOf are what a view says of id; nil: nothing.
func gatewayOf(v *View, id mesh.GatewayID) *core.Gateway {
	for i := range v.Gateways {
		if v.Gateways[i].ID == id {
			return &v.Gateways[i]
		}
	}
	return nil
}

func originOf(v *View, id mesh.GatewayID) *Origin {
	for i := range v.Origins {
		if v.Origins[i].ID == id {
			return &v.Origins[i]
		}
	}
	return nil
}

// serving returns an export of one HTTP port with ready endpoints of the cluster.
func serving(cluster mesh.ClusterName, service string, ready uint32) mesh.Export {
	name, err := mesh.ParseServiceName(service)
	if err != nil {
		panic(err)
	}
	return mesh.Export{Service: name, Ports: []mesh.ExportPort{{Port: 80, Protocol: mesh.HTTP, Ready: ready, Total: 2, Capacity: ready,
		Identities: []string{"spiffe://mesh.example/cluster/" + string(cluster) + "/ns/" + name.Namespace + "/sa/" + name.Name}}}}
}
