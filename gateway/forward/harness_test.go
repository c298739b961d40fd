package forward_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/forward"
	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

const host = "orders.shop.mesh"

var (
	orders = mesh.ServiceName{Namespace: "shop", Name: "orders"}
	east1  = mesh.GatewayID{Cluster: "east", Name: "east-1"}
	west1  = mesh.GatewayID{Cluster: "west", Name: "west-1"}
)

// choice is what an Outbound or Inbound function answers in a test.
type choice func(*forward.Request) ([]forward.Candidate, *connect.Refusal)

// testLimit is when a test gives up on a connection. It says nothing about speed: the
// machine may be busy with other packages.
const testLimit = 2 * time.Minute

// always offers the candidates to every request.
func always(c ...forward.Candidate) choice {
	return func(*forward.Request) ([]forward.Candidate, *connect.Refusal) { return c, nil }
}

func nobody(*forward.Request) ([]forward.Candidate, *connect.Refusal) {
	return nil, connect.Refuse(http.StatusNotFound, connect.DestinationNotFound, "no such service")
}

// to is the candidate of a far gateway.
func to(id mesh.GatewayID) forward.Candidate {
	return forward.Candidate{Gateway: id, RTT: time.Millisecond, Port: 80, Protocol: mesh.TCP}
}

// at is the candidate of an endpoint that ends the TLS itself.
func at(instance, address string) forward.Candidate {
	return forward.Candidate{Port: 80, Protocol: mesh.TCP,
		Endpoint: mesh.Endpoint{Instance: instance, Address: address, Ready: true, Identity: "spiffe://mesh.example/x"}}
}

// plainAt is the candidate of an endpoint for which the gateway ends the TLS.
func plainAt(instance, address string) forward.Candidate {
	c := at(instance, address)
	c.Endpoint.Identity = ""
	return c
}

// byDefault is the strict default for every service of a cluster, exported at port 80.
func byDefault(cluster mesh.ClusterName) func(mesh.ServiceName) *policy.Authorizer {
	return func(s mesh.ServiceName) *policy.Authorizer {
		a, err := policy.Compile(policy.SetOf(s, []uint16{80}, nil), "mesh.example", cluster)
		if err != nil {
			panic(err)
		}
		return a
	}
}

// start runs a Forward on a loopback mesh port and returns that port's address.
func start(t *testing.T, cfg forward.Config) (*forward.Forward, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listener = l
	return run(t, cfg), l.Addr().String()
}

// run runs a Forward until the test ends.
func run(t *testing.T, cfg forward.Config) *forward.Forward {
	t.Helper()
	if cfg.Self.IsZero() {
		cfg.Self = east1
	}
	if cfg.Outbound == nil {
		cfg.Outbound = nobody
	}
	if cfg.Inbound == nil {
		cfg.Inbound = nobody
	}
	if cfg.Open == nil {
		cfg.Open = func(context.Context, mesh.GatewayID) (relay.Conn, error) { return nil, errors.New("no tunnel") }
	}
	if cfg.Identity == nil {
		cfg.Identity = anIdentity(t)
	}
	if cfg.Authorizer == nil {
		cfg.Authorizer = byDefault(cfg.Self.Cluster)
	}
	f, err := forward.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return f
}

// anIdentity is for tests without plain endpoints.
func anIdentity(t *testing.T) *identity.Source {
	return identitytest.New(t, "mesh.example").Gateway("east", "east-1")
}

// pair are two gateways of two clusters, joined by a real tunnel.
type pair struct {
	near, far  *forward.Forward
	nearTunnel *tunnel.Node
	addr       string // the near gateway's mesh port
}

// newPair starts two gateways: what the near one's mesh port is asked for is
// served by the far one's inbound. The configurations are completed.
func newPair(t *testing.T, m *identitytest.Mesh, inbound choice, near, far forward.Config) *pair {
	t.Helper()
	p := new(pair)
	p.nearTunnel = newTunnel(t, east1, m)
	farTunnel := newTunnel(t, west1, m)
	p.nearTunnel.SetTargets([]tunnel.Target{{Addr: farTunnel.LocalAddr().String(), Gateway: west1}})

	near.Self = east1
	near.Outbound = always(to(west1))
	near.Open = func(ctx context.Context, id mesh.GatewayID) (relay.Conn, error) {
		s, err := p.nearTunnel.Open(ctx, id)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	p.near, p.addr = start(t, near)

	far.Self = west1
	far.Inbound = inbound
	id := m.Gateway("west", "west-1")
	far.Identity = id
	p.far = run(t, far)
	srv := &http.Server{Handler: http.HandlerFunc(p.far.ServeTunnel), ConnContext: tunnel.ConnContext}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(farTunnel.Listener()) }()
	t.Cleanup(func() { _ = srv.Close(); <-served })

	for {
		peers, past := p.nearTunnel.Peers()
		if len(peers) == 1 && peers[0].State == tunnel.Up {
			return p
		}
		<-past
	}
}

func newTunnel(t *testing.T, self mesh.GatewayID, m *identitytest.Mesh) *tunnel.Node {
	t.Helper()
	e, err := tunnel.New(tunnel.Config{Self: self, Identity: m.Gateway(self.Cluster, self.Name), Listen: tunnel.ListenUDP("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("tunnel: %v", err)
		}
	})
	<-e.Ready()
	return e
}

// serve runs handle for each connection to a loopback port and returns its
// address. The test ends only after all have.
func serve(t *testing.T, handle func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(testLimit))
				handle(c.(*net.TCPConn))
			})
		}
	})
	return l.Addr().String()
}

// echo answers what it reads, then ends.
func echo(c *net.TCPConn) {
	_, _ = io.Copy(onlyWriter{c}, c)
	_ = c.CloseWrite()
	_, _ = io.Copy(io.Discard, c)
}

// onlyWriter hides ReadFrom: splice(2) between a socket and itself is not what is tested.
type onlyWriter struct{ io.Writer }

// dial connects to a mesh port.
func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(testLimit))
	return c.(*net.TCPConn)
}

// connectHead is the head of a CONNECT as a sidecar writes it.
func connectHead(extra ...string) string {
	return fmt.Sprintf("CONNECT %s:80 HTTP/1.1\r\nHost: %s:80\r\n%s\r\n", host, host, strings.Join(extra, ""))
}

// reply reads the head of the answer to a CONNECT, byte by byte.
func reply(t testing.TB, c net.Conn) *http.Response {
	t.Helper()
	var head []byte
	for b := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, b[0]) {
		if _, err := c.Read(b); err != nil {
			t.Fatalf("read the reply: %v after %q", err, head)
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), &http.Request{Method: http.MethodConnect})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// refused fails the test unless resp is a refusal with this status and reason.
func refused(t testing.TB, resp *http.Response, status int, reasons ...string) {
	t.Helper()
	why := resp.Header.Get("Proxy-Status")
	if resp.StatusCode != status {
		t.Fatalf("status %d (%s), want %d", resp.StatusCode, why, status)
	}
	for _, r := range reasons {
		if !strings.Contains(why, r) {
			t.Fatalf("Proxy-Status %q, want …%s…", why, r)
		}
	}
}

// afterReply is a connection behind a CONNECT that was written but not answered
// yet: the reply is taken out before the first byte that is read.
type afterReply struct {
	*net.TCPConn
	t    testing.TB
	once sync.Once
	resp *http.Response
}

func (c *afterReply) Read(b []byte) (int, error) {
	c.once.Do(func() { c.resp = reply(c.t, c.TCPConn) })
	return c.TCPConn.Read(b)
}

// hello returns what a TLS client sends first; of what comes after, a gateway
// knows nothing.
func hello(t testing.TB) []byte {
	t.Helper()
	client, server := net.Pipe()
	go func() {
		_ = tls.Client(client, &tls.Config{ServerName: host}).Handshake() // fails: nobody answers
		_ = client.Close()
	}()
	defer server.Close()
	b := make([]byte, 16<<10)
	n, err := server.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}
