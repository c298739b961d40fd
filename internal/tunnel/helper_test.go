package tunnel

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// network is a simulated one: packets between its ports take latency and are
// lost between addresses that are cut from each other.
type network struct {
	latency time.Duration

	mu    sync.Mutex
	ports map[string]*port
	cut   map[[2]string]bool
	mtu   map[[2]string]int // the largest packet that passes, in bytes; none: all
	loss  float64           // of every packet
	dice  *rand.Rand        // for loss
}

// port is a socket of the network.
type port struct {
	*simnet.SimConn
	kernel *net.UDPConn // takes the socket options that quic-go wants for path MTU discovery
	frozen atomic.Bool  // as if its process were stopped: sends and receives nothing
}

func (p *port) WriteTo(b []byte, to net.Addr) (int, error) {
	if p.frozen.Load() {
		return len(b), nil
	}
	return p.SimConn.WriteTo(b, to)
}

// SyscallConn makes quic-go search for the path MTU.
func (p *port) SyscallConn() (syscall.RawConn, error) { return p.kernel.SyscallConn() }

func (p *port) Close() error { return errors.Join(p.kernel.Close(), p.SimConn.Close()) }

func newNetwork(latency time.Duration) *network {
	return &network{
		latency: latency, ports: map[string]*port{}, cut: map[[2]string]bool{}, mtu: map[[2]string]int{},
		dice: rand.New(rand.NewPCG(1, 2)),
	}
}

// SendPacket implements [simnet.Router].
func (n *network) SendPacket(p simnet.Packet) error {
	n.mu.Lock()
	to := n.ports[p.To.String()]
	way := [2]string{p.From.String(), p.To.String()}
	mtu, narrow := n.mtu[way]
	lost := n.cut[way] || narrow && len(p.Data) > mtu || n.dice.Float64() < n.loss
	n.mu.Unlock()
	if to == nil || lost {
		return nil
	}
	time.AfterFunc(n.latency, func() {
		if !to.frozen.Load() {
			to.RecvPacket(p)
		}
	})
	return nil
}

// AddNode implements [simnet.Router]; listen does it.
func (n *network) AddNode(net.Addr, simnet.PacketReceiver) {}

// listen returns a function that binds addr, taking it over from the port that
// had it before.
func (n *network) listen(addr string) func() (net.PacketConn, error) {
	return func() (net.PacketConn, error) {
		udp, err := net.ResolveUDPAddr("udp", addr)
		if err != nil {
			return nil, err
		}
		kernel, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, err
		}
		p := &port{SimConn: simnet.NewBlockingSimConn(udp, n), kernel: kernel}
		n.mu.Lock()
		n.ports[addr] = p
		n.mu.Unlock()
		return p, nil
	}
}

func (n *network) port(addr string) *port {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ports[addr]
}

// partition cuts two addresses from each other, or heals that.
func (n *network) partition(a, b string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]string{a, b}] = cut
	n.cut[[2]string{b, a}] = cut
}

// narrow lets only packets of so many bytes pass from one address to another; 0
// lets all pass.
func (n *network) narrow(from, to string, mtu int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.mtu, [2]string{from, to})
	if mtu > 0 {
		n.mtu[[2]string{from, to}] = mtu
	}
}

// world is a mesh of test gateways.
type world struct {
	t    *testing.T
	mesh *identitytest.Mesh
	net  *network // nil: loopback
}

func newWorld(t *testing.T, n *network) *world {
	return &world{t: t, mesh: identitytest.New(t, "mesh.example"), net: n}
}

// gateway is a running node.
type gateway struct {
	*Node
	id   mesh.GatewayID
	addr string
	kill func() // ends it without a word to its peers (virtual network only)
	stop func() // ends Run
}

func gatewayID(t *testing.T, s string) mesh.GatewayID {
	t.Helper()
	id, err := mesh.ParseGatewayID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// start runs a gateway at addr; change may change its configuration. It is
// stopped at the end of the test.
func (w *world) start(name, addr string, change ...func(*Config)) *gateway {
	w.t.Helper()
	id := gatewayID(w.t, name)
	cfg := Config{
		Self:     id,
		Identity: w.mesh.Gateway(id.Cluster, id.Name),
		ResetKey: [32]byte{1, 2, 3},
		Log:      testLog(w.t).With("self", name),
	}
	if w.net != nil {
		cfg.Listen = w.net.listen(addr)
	} else {
		cfg.Listen = ListenUDP(addr)
		cfg.ListenPacket = ListenUDP("127.0.0.1:0")
	}
	for _, c := range change {
		c(&cfg)
	}
	n, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	select {
	case <-n.Ready():
	case err := <-done:
		w.t.Fatal(err)
	}
	g := &gateway{Node: n, id: id, addr: n.LocalAddr().String()}
	g.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("run %s: %v", name, err)
		}
	})
	g.kill = func() {
		w.net.port(addr).frozen.Store(true)
		g.stop()
	}
	w.t.Cleanup(g.stop)
	return g
}

// testLog logs to the test's output with -v.
func testLog(t *testing.T) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// dials makes g keep tunnels to others.
func (g *gateway) dials(others ...*gateway) {
	var targets []Target
	for _, o := range others {
		targets = append(targets, Target{Addr: o.addr, Gateway: o.id})
	}
	g.SetTargets(targets)
}

// peer returns what g knows of a gateway.
func (g *gateway) peer(id mesh.GatewayID) Peer {
	peers, _ := g.Peers()
	for _, p := range peers {
		if p.Gateway == id {
			return p
		}
	}
	return Peer{Gateway: id, State: Down}
}

// await waits until g's view of a peer is as wanted and returns it.
func (g *gateway) await(t *testing.T, id mesh.GatewayID, what string, ok func(Peer) bool) Peer {
	t.Helper()
	limit := time.NewTimer(2 * time.Minute)
	defer limit.Stop()
	for {
		_, past := g.Peers()
		p := g.peer(id)
		if ok(p) {
			return p
		}
		select {
		case <-past:
		case <-limit.C:
			t.Fatalf("%s never saw %s %s: %+v, targets %+v", g.id, id, what, p, g.TargetStates())
		}
	}
}

func isUp(p Peer) bool   { return p.State == Up }
func isDown(p Peer) bool { return p.State == Down }

// connections returns a condition on their number.
func connections(n int) func(Peer) bool {
	return func(p Peer) bool { return p.Connections == n }
}

// open opens a stream that carries a path, and fails the test when it cannot.
func (g *gateway) open(t *testing.T, to *gateway) *Stream {
	t.Helper()
	s, err := g.Open(t.Context(), to.id)
	if err != nil {
		t.Fatal(err)
	}
	s.CarriesPath()
	return s
}

// path opens a path to a gateway that echoes: both ends know of it.
func (g *gateway) path(t *testing.T, to *gateway) *Stream {
	t.Helper()
	s := g.open(t, to)
	if _, err := io.WriteString(s, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return s
}

// accept waits for a stream.
func (g *gateway) accept(t *testing.T) *Stream {
	t.Helper()
	c, err := g.Listener().Accept()
	if err != nil {
		t.Fatal(err)
	}
	s := c.(*Stream)
	s.CarriesPath()
	return s
}

// echoes answers every stream with what comes in, until Run ends.
func (g *gateway) echoes(t *testing.T) {
	var wg sync.WaitGroup
	l := g.Listener()
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				s := c.(*Stream)
				s.CarriesPath()
				if _, err := io.Copy(s, s); err != nil {
					_ = s.Abort()
					return
				}
				_ = s.Close()
			})
		}
	})
	t.Cleanup(func() { g.stop(); wg.Wait() })
}

// checkEcho sends a message over s and wants it back.
func checkEcho(t *testing.T, s *Stream, message string) {
	t.Helper()
	if _, err := io.WriteString(s, message); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(s)
	if err != nil || string(got) != message {
		t.Fatalf("got %q, %v; want %q", got, err, message)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}
