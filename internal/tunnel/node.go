package tunnel

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/internal/audit"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Config says what an [Node] is made of. Self, Identity and Listen are
// required.
type Config struct {
	Self     mesh.GatewayID
	Identity *identity.Source
	// Listen opens the main socket: [ListenUDP] outside tests. Run calls it once,
	// before anything else, and closes the socket when it returns.
	Listen func() (net.PacketConn, error)
	// ListenPacket opens an extra socket for one dialled connection, so that
	// connections to the same peer differ in their source port. Nil: all use the
	// main socket.
	ListenPacket func() (net.PacketConn, error)
	// ResetKey makes stateless resets (RFC 9000 section 10.3). Keep it on disk: a
	// restarted gateway with the same key and address tells its peers at once that
	// their connections to its predecessor are dead.
	ResetKey [32]byte
	// Connections is how many connections are kept to each peer; 0 means 2.
	Connections int
	// Resolve turns a target's address into one to send packets to; nil means DNS.
	Resolve func(ctx context.Context, addr string) (net.Addr, error)
	Log     *slog.Logger          // nil: silent
	Audit   *audit.Log            // of tunnels that came and went, and of who was refused one; nil: none
	Metrics prometheus.Registerer // nil: not registered
}

// Node is this gateway's end of all its tunnels. Its methods may be called
// by any goroutine.
type Node struct {
	cfg         Config
	log         *slog.Logger
	incarnation incarnation
	metrics     *metrics

	ready chan struct{} // closed when the main socket is bound
	stop  chan struct{} // closed by Shutdown: Run returns
	ended chan struct{} // closed when Run returns

	table    *table
	targets  *targets
	accepted chan *Stream // streams that peers opened
	halfOpen *halfOpen
	greeting *limit.Shares[mesh.ClusterName] // connections whose peer has not said hello
	incoming *limit.Shares[mesh.ClusterName] // open streams that peers opened

	handlePacket atomic.Pointer[func(mesh.GatewayID, []byte)]

	// Set before ready is closed.
	main      net.PacketConn
	transport *quic.Transport

	// wg holds every goroutine of Run except that of [targets.run],
	// whose dialers add to it.
	wg sync.WaitGroup

	running atomic.Bool // Run was called
}

// New checks the configuration and opens nothing.
func New(cfg Config) (*Node, error) {
	switch {
	case cfg.Self.IsZero():
		return nil, errors.New("tunnel: Config.Self is missing")
	case cfg.Identity == nil:
		return nil, errors.New("tunnel: Config.Identity is missing")
	case cfg.Listen == nil:
		return nil, errors.New("tunnel: Config.Listen is missing")
	case cfg.Connections < 0 || cfg.Connections > maxConnections/2:
		return nil, fmt.Errorf("tunnel: %d connections to each peer: use 1 to %d", cfg.Connections, maxConnections/2)
	}
	if id := cfg.Identity.ID(); !id.IsGateway() || id.GatewayID() != cfg.Self {
		return nil, fmt.Errorf("this gateway is %s, but its certificate is for %s: set cluster and name to match, or make the certificate with `isthmus pki gateway --cluster %s %s`",
			cfg.Self, id, cfg.Self.Cluster, cfg.Self.Name)
	}
	if cfg.Resolve == nil {
		cfg.Resolve = resolve
	}
	n := &Node{
		cfg:      cfg,
		log:      cfg.Log,
		ready:    make(chan struct{}),
		stop:     make(chan struct{}),
		ended:    make(chan struct{}),
		accepted: make(chan *Stream, acceptQueue),
		halfOpen: newHalfOpen(),
		greeting: limit.NewShares[mesh.ClusterName](maxGreeting, 1),
		incoming: limit.NewShares[mesh.ClusterName](maxIncoming, 1),
	}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	n.targets = &targets{node: n, changed: state.NewNotify(), running: map[string]*target{}}
	n.table = &table{
		connections: cmp.Or(cfg.Connections, defaultConnections), targets: n.targets, halfOpen: n.halfOpen, log: n.log, audit: cfg.Audit,
		drained: state.NewNotify(), peers: map[mesh.GatewayID]*peer{},
	}
	_, _ = rand.Read(n.incarnation[:]) // never fails (documented)
	var err error
	n.metrics, err = newMetrics(n, cfg.Metrics)
	n.table.metrics = n.metrics
	return n, err
}

// Run opens the main socket, then accepts and keeps connections until ctx ends or
// [Node.Shutdown] is called; it returns nil then. Peers of a node that
// ends without Shutdown expect it back. It may be called once.
func (n *Node) Run(ctx context.Context) error {
	if n.running.Swap(true) {
		return errors.New("tunnel: Run was called before")
	}
	defer close(n.ended)

	socket, err := n.openMain()
	if err != nil {
		return err
	}
	n.main, n.transport = socket, n.newTransport(socket)
	n.transport.VerifySourceAddress, n.transport.ConnContext = n.halfOpen.doubts, n.halfOpen.begin
	ln, err := n.transport.Listen(n.serverTLS(), quicConfig())
	if err != nil {
		closeTransport(n.transport, socket)
		return fmt.Errorf("listen for tunnels on %s: %w", socket.LocalAddr(), err)
	}
	close(n.ready)
	n.log.Info("gateway listens for tunnels", "addr", socket.LocalAddr())

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Watching and serving outlive ctx, so that connections end by a close.
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	n.wg.Go(func() { n.acceptConns(serving, ln) })
	n.wg.Go(func() { (&watcher{table: n.table, trust: n.cfg.Identity.Trust(), log: n.log}).run(serving) })
	targetsDone := make(chan struct{})
	go func() {
		defer close(targetsDone)
		n.targets.run(ctx)
	}()

	select {
	case <-ctx.Done():
	case <-n.stop:
	}
	cancel()
	<-targetsDone
	n.closeAll()
	_ = ln.Close() // it was open
	stopServing()
	n.wg.Wait()
	closeTransport(n.transport, socket)
	n.abortAccepted()
	return nil
}

// Ready is closed when the main socket is bound.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// LocalAddr returns the main socket's address, nil before it is bound.
func (n *Node) LocalAddr() net.Addr {
	select {
	case <-n.ready:
		return n.main.LocalAddr()
	default:
		return nil
	}
}

// closeAll closes all connections and admits no more.
func (n *Node) closeAll() {
	code, reason := codeStopped, "the gateway stops"
	if n.table.close() {
		code, reason = codeLeaving, "the gateway leaves"
	}
	for _, c := range n.table.conns() {
		c.close(code, reason)
	}
}

// abortAccepted ends the streams that nobody has accepted.
func (n *Node) abortAccepted() {
	for {
		select {
		case s := <-n.accepted:
			_ = s.Abort()
		default:
			return
		}
	}
}

// Shutdown tells the peers that this gateway leaves, so that they open no more
// streams to it, waits until the streams that exist have ended or ctx ends,
// closes all connections, and waits for Run. It returns ctx's error when streams were
// cut off. Streams may still be opened and accepted meanwhile.
func (n *Node) Shutdown(ctx context.Context) error {
	if !n.running.Load() {
		return nil
	}
	before := n.table.drain()
	n.targets.set(nil)
	var err error
	if !before {
		err = n.drain(ctx)
		close(n.stop)
	}
	<-n.ended
	return err
}

// drain says goodbye to all peers, waits for the streams, then lets the peers
// close, because only they know that everything has reached them.
func (n *Node) drain(ctx context.Context) error {
	for _, c := range n.table.conns() {
		c.send(frameLeaving)
	}
	for n.table.openStreams() > 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d streams cut off: %w", n.table.openStreams(), context.Cause(ctx))
		case <-n.ended:
			return nil
		case <-n.table.drained.C():
		}
	}
	conns := n.table.conns()
	for _, c := range conns {
		c.send(frameDone)
	}
	ctx, cancel := context.WithTimeout(ctx, doneWait)
	defer cancel()
	for _, c := range conns {
		select {
		case <-c.ended:
		case <-ctx.Done():
			return nil // the peers are slow or dead: our streams have ended
		}
	}
	return nil
}
