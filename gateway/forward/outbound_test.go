package forward_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/isthmus-mesh/isthmus/gateway/forward"
	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/socket/sockettest"
)

// open asks for a path by CONNECT and sees that it carries bytes both ways.
func open(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c := dial(t, addr)
	payload := hello(t)
	_, _ = c.Write(append([]byte(connectHead()), payload...))
	if resp := reply(t, c); resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %s", resp.StatusCode, resp.Header.Get("Proxy-Status"))
	}
	if _, err := io.ReadFull(c, make([]byte, len(payload))); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWhatIsNotTheMeshsTrafficIsNotCarried(t *testing.T) {
	reached := make(chan string, 16)
	addr := serve(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		reached <- string(b)
	})
	registry := prometheus.NewPedanticRegistry()
	_, port := start(t, forward.Config{Outbound: always(at("orders-1", addr)), Metrics: registry})

	for _, garbage := range []string{"GET / HTTP/1.1\r\n\r\n", "\x00", "SSH-2.0-x\r\n", "\xff\xff\xff\xff"} {
		c := dial(t, port)
		_, _ = io.WriteString(c, garbage)
		if b, err := io.ReadAll(c); err == nil || len(b) > 0 {
			t.Errorf("%q is answered %q", garbage, b)
		}
	}
	// Behind a CONNECT, at once or after the reply, in one piece or two.
	c := dial(t, port)
	_, _ = io.WriteString(c, connectHead()+"GET / HTTP/1.1\r\n\r\n")
	refused(t, reply(t, c), http.StatusBadRequest, "does not begin with a TLS ClientHello")
	for _, pieces := range [][]string{{"GET / HTTP/1.1\r\n\r\n"}, {"\x16", "\x03\x01GET"}, {"\x16\x03\x01\x00\x05\x02"}} {
		c := dial(t, port)
		_, _ = io.WriteString(c, connectHead())
		if resp := reply(t, c); resp.StatusCode != http.StatusOK {
			t.Fatalf("status %d", resp.StatusCode)
		}
		for _, p := range pieces {
			_, _ = io.WriteString(c, p)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q behind the reply: read gives %v, want a reset", pieces, err)
		}
		if got := <-reached; got != "" {
			t.Errorf("the endpoint was reached by %q", got)
		}
	}
	// A ClientHello without a name, and one for a name outside the mesh.
	for _, cfg := range []*tls.Config{{InsecureSkipVerify: true}, {ServerName: "example.com"}} { // neither connects
		err := tls.Client(dial(t, port), cfg).Handshake()
		if err == nil || !strings.Contains(err.Error(), "remote error") {
			t.Errorf("the handshake gives %v, want an alert", err)
		}
	}
	if n := testutil.CollectAndCount(registry, "isthmus_paths_refused_total"); n == 0 {
		t.Error("nothing was counted")
	}
}

func TestPathsAreBoundedPerSourceAddress(t *testing.T) {
	addr := serve(t, echo)
	_, port := start(t, forward.Config{Outbound: always(at("orders-1", addr)), PathsPerSource: 2})
	first, _ := open(t, port), open(t, port)
	c := dial(t, port)
	_, _ = c.Write(append([]byte(connectHead()), hello(t)...))
	refused(t, reply(t, c), http.StatusServiceUnavailable, connect.ConnectionLimit)

	// Another source is not affected, and a path that ends makes room.
	other := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	o, err := other.Dial("tcp", port)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	_, _ = o.Write(append([]byte(connectHead()), hello(t)...))
	if resp := reply(t, o); resp.StatusCode != http.StatusOK {
		t.Fatalf("another source is refused: %s", resp.Header.Get("Proxy-Status"))
	}
	_ = first.CloseWrite()
	if _, err := io.ReadAll(first); err != nil {
		t.Fatal(err)
	}
	for { // until the gateway has seen the end, too
		c := dial(t, port)
		_, _ = c.Write(append([]byte(connectHead()), hello(t)...))
		if reply(t, c).StatusCode == http.StatusOK {
			return
		}
	}
}

func TestNewBoundsHoldForNewPaths(t *testing.T) {
	f, port := start(t, forward.Config{Outbound: always(at("orders-1", serve(t, echo)))})
	open(t, port)
	ask := func() *http.Response {
		c := dial(t, port)
		_, _ = c.Write(append([]byte(connectHead()), hello(t)...))
		return reply(t, c)
	}
	f.SetLimits(0, 1)
	refused(t, ask(), http.StatusServiceUnavailable, connect.ConnectionLimit)
	f.SetLimits(0, 0)
	if resp := ask(); resp.StatusCode != http.StatusOK {
		t.Fatalf("refused within the bounds: %s", resp.Header.Get("Proxy-Status"))
	}
}

func TestWhatThisMachineLacksIsNoFaultOfTheEndpoint(t *testing.T) {
	for _, lacking := range []error{syscall.EADDRNOTAVAIL, syscall.EMFILE} {
		reg := prometheus.NewRegistry()
		_, port := start(t, forward.Config{Outbound: always(at("orders-1", "10.0.0.1:80")), Metrics: reg,
			Dial: func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", lacking)}
			}})
		c := dial(t, port)
		_, _ = c.Write(append([]byte(connectHead()), hello(t)...))
		refused(t, reply(t, c), http.StatusServiceUnavailable, connect.ProxyInternal)
		if err := testutil.GatherAndCompare(reg, strings.NewReader(`
			# HELP isthmus_path_own_faults_total Endpoints that were not dialled for want of a local port, a file descriptor or memory.
			# TYPE isthmus_path_own_faults_total counter
			isthmus_path_own_faults_total 1
		`), "isthmus_path_own_faults_total"); err != nil {
			t.Error(err)
		}
	}
}

func TestLocalEndpointsAreTriedInTurn(t *testing.T) {
	closed := sockettest.Reserve(t)
	addr := serve(t, echo)
	var load []int // of the endpoint that serves, as the router sees it
	_, port := start(t, forward.Config{Outbound: func(r *forward.Request) ([]forward.Candidate, *connect.Refusal) {
		load = append(load, r.Load(addr))
		return []forward.Candidate{at("orders-1", closed), at("orders-2", addr)}, nil
	}})
	c := dial(t, port)
	_, _ = io.WriteString(c, connectHead())
	resp := reply(t, c)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Isthmus-Instance") != "orders-2" || resp.Header.Get("Isthmus-Cluster") != "east" {
		t.Fatalf("reply %d %v", resp.StatusCode, resp.Header)
	}
	open(t, port)
	if len(load) != 2 || load[0] != 0 || load[1] != 1 {
		t.Fatalf("the router saw %v paths to the endpoint, want 0 and 1", load)
	}
}

func TestAPlainEndpointOfTheOwnClusterIsServedUnderTheGatewaysName(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	gateway := m.Gateway("east", "east-1")
	addr := serve(t, echo)
	c := plainAt("orders-1", addr)
	c.Protocol = mesh.HTTP
	_, port := start(t, forward.Config{Outbound: always(c),
		Identity: gateway})
	client := tls.Client(dial(t, port), m.Workload("east", "shop", "web").ClientTLS(host, identity.ExactGateway(east1), "http/1.1"))
	_, _ = io.WriteString(client, "GET")
	_ = client.CloseWrite()
	if got, err := io.ReadAll(client); err != nil || string(got) != "GET" {
		t.Fatalf("%q, %v", got, err)
	}
	if p := client.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
		t.Fatalf("ALPN %q", p)
	}
}

func TestAPathToAPlainEndpointEndsWhenItsCallersRootIsTrustedNoMore(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	dir := m.GatewayDir("east", "east-1")
	gateway, err := identity.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var run sync.WaitGroup
	run.Go(func() { _ = gateway.Run(t.Context()) })
	t.Cleanup(run.Wait)
	_, port := start(t, forward.Config{Outbound: always(plainAt("orders-1", serve(t, echo))), Identity: gateway})
	client := tls.Client(dial(t, port), m.Workload("east", "shop", "web").ClientTLS(host, identity.ExactGateway(east1)))
	if _, err := io.WriteString(client, "GET"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(client, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	other, err := identitytest.New(t, "mesh.example").Cluster("east").Issue(identity.Request{ID: identity.ID{Gateway: "east-1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Save(dir, true); err != nil {
		t.Fatal(err)
	}
	_ = client.SetReadDeadline(time.Now().Add(testLimit))
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the path gives %v, want a reset", err)
	}
}

func TestAPathToAPlainEndpointEndsWithItsCallersCertificate(t *testing.T) {
	t.Parallel()
	m := identitytest.New(t, "mesh.example")
	_, port := start(t, forward.Config{Outbound: always(plainAt("orders-1", serve(t, echo))), Identity: m.Gateway("east", "east-1")})
	short, err := m.Cluster("east").Issue(identity.Request{ID: identity.ID{Namespace: "shop", ServiceAccount: "web"}, TTL: 6 * time.Second}) // it shakes hands before
	if err != nil {
		t.Fatal(err)
	}
	caller, err := short.Source()
	if err != nil {
		t.Fatal(err)
	}
	client := tls.Client(dial(t, port), caller.ClientTLS(host, identity.ExactGateway(east1)))
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	_ = client.SetReadDeadline(time.Now().Add(testLimit))
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) || time.Now().Before(short.NotAfter()) {
		t.Errorf("the path gives %v, want a reset once the certificate has expired", err)
	}
}

func TestDrainRefusesNewPathsAndLetsRunningOnesFinish(t *testing.T) {
	addr := serve(t, echo)
	f, port := start(t, forward.Config{Outbound: always(at("orders-1", addr))})
	running := open(t, port)

	drained := make(chan error, 1)
	go func() { drained <- f.Shutdown(context.Background()) }()
	for { // until Shutdown has begun
		c := dial(t, port)
		_, _ = c.Write(append([]byte(connectHead()), hello(t)...))
		resp := reply(t, c)
		if resp.StatusCode == http.StatusOK {
			_ = c.SetLinger(0) // or Shutdown would wait for it
			_ = c.Close()
			continue
		}
		refused(t, resp, http.StatusServiceUnavailable, "isthmus-east-1; error=destination_unavailable", "draining")
		break
	}
	if _, err := io.WriteString(running, "still here"); err != nil {
		t.Fatal(err)
	}
	_ = running.CloseWrite()
	if got, err := io.ReadAll(running); err != nil || string(got) != "still here" {
		t.Fatalf("%q, %v", got, err)
	}
	if err := <-drained; err != nil {
		t.Fatalf("Shutdown: %v", err)
	}
	if _, err := net.Dial("tcp", port); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("after Shutdown the mesh port gives %v, want connection refused", err)
	}
}

func TestDrainEndsAtItsDeadline(t *testing.T) {
	addr := serve(t, echo)
	f, port := start(t, forward.Config{Outbound: always(at("orders-1", addr))})
	running := open(t, port)
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // the deadline has passed
	if err := f.Shutdown(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "1 paths reset") {
		t.Fatalf("Shutdown: %v", err)
	}
	if _, err := running.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read gives %v, want a reset", err)
	}
}

func TestTheEndOfRunEndsTunnelPathsToo(t *testing.T) {
	addr := serve(t, echo)
	far, _ := start(t, forward.Config{Inbound: always(at("orders-1", addr))})
	// An http.Server over TCP stands for the tunnel's.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(far.ServeTunnel)}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	c := open(t, l.Addr().String())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := far.Shutdown(ctx); err == nil {
		t.Fatal("Shutdown reports that all paths ended by themselves")
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read gives %v, want a reset", err)
	}
}

func TestARefusalShowsNoInnerAddress(t *testing.T) {
	addr := sockettest.Reserve(t)
	// The name is what resource files make of an address.
	_, port := start(t, forward.Config{Outbound: always(at(strings.ReplaceAll(addr, ":", "-"), addr))})
	c := dial(t, port)
	_, _ = c.Write(append([]byte(connectHead()), hello(t)...))
	resp := reply(t, c)
	body, _ := io.ReadAll(resp.Body)
	said := resp.Header.Get("Proxy-Status") + string(body)
	if resp.StatusCode != http.StatusBadGateway || !strings.Contains(said, "refused") || strings.Contains(said, "127.0.0.1") {
		t.Errorf("%d %s; want 502 without an address", resp.StatusCode, said)
	}
}
