package proxy

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/socket/sockettest"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

var (
	orders = mesh.ServiceName{Namespace: "shop", Name: "orders"}
	dest   = mesh.Destination{Service: orders, Port: 80}
)

// world is a trust domain with a caller in east.
type world struct {
	t      testing.TB
	mesh   *identitytest.Mesh
	caller *identity.Source
	log    *slog.Logger
}

func newWorld(t testing.TB) *world {
	m := identitytest.New(t, "mesh.example")
	return &world{t: t, mesh: m, caller: m.Workload("east", "shop", "web"), log: slog.New(slog.DiscardHandler)}
}

// run runs p until the test ends, and checks that it ends with nothing left.
func (w *world) run(p *Proxy) *Proxy {
	w.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(context.Background()) }()
	select {
	case <-p.Ready():
	case err := <-ended:
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		_ = p.Shutdown(ctx) // idle connections of the tests' clients are cut
		if err := <-ended; err != nil {
			w.t.Errorf("Run: %v", err)
		}
		if n := p.conns[inbound].Len() + p.conns[outbound].Len(); n != 0 {
			w.t.Errorf("%d connections left", n)
		}
	})
	return p
}

// instance is a sidecar with a program beside it.
func (w *world) instance(cluster mesh.ClusterName, name, target string, protocol mesh.Protocol) mesh.Endpoint {
	w.t.Helper()
	id := w.mesh.Workload(cluster, orders.Namespace, orders.Name)
	p, err := New(Config{Identity: id, Log: w.log, Inbound: &Inbound{
		Listen: "127.0.0.1:0", Ports: []Served{{Service: orders, Port: dest.Port, Target: target, Protocol: protocol}},
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.run(p)
	return mesh.Endpoint{Instance: name, Address: inboundAddr(p).String(), Ready: true, Weight: 1, Identity: id.ID().String()}
}

// web is an instance whose program is an HTTP handler.
func (w *world) web(cluster mesh.ClusterName, name string, h http.Handler) mesh.Endpoint {
	w.t.Helper()
	return w.instance(cluster, name, w.program(h), mesh.HTTP)
}

// program is a plain HTTP server.
func (w *world) program(h http.Handler) string {
	s := httptest.NewServer(h)
	w.t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// route is a route to local endpoints and gateways.
func route(protocol mesh.Protocol, local ...mesh.Endpoint) *mesh.Route {
	r := &mesh.Route{Destination: dest, Protocol: protocol, Local: local}
	for _, ep := range local {
		if ep.Identity != "" {
			r.Identities = append(r.Identities, ep.Identity)
		}
	}
	return r
}

// outbound is a sidecar of the caller with a listener for dest; it returns the
// listener's address.
func (w *world) outbound(r *mesh.Route) string {
	w.t.Helper()
	p := w.outboundProxy(r)
	return explicitAddr(p).String()
}

func (w *world) outboundProxy(r *mesh.Route) *Proxy {
	w.t.Helper()
	set := upstream.New(upstream.Config{Identity: w.caller, Cluster: "east"})
	store := routes.NewStore(set.Update, nil)
	if r != nil {
		store.Replace([]*mesh.Route{r}, nil)
	}
	w.t.Cleanup(set.Close)
	p, err := New(Config{Identity: w.caller, Routes: store, Upstreams: set, Log: w.log,
		Explicit: []Explicit{{Listen: "127.0.0.1:0", Destination: dest}}})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.run(p)
}

// explicitAddr returns where the explicit listener for dest is bound, nil when it is not.
func explicitAddr(p *Proxy) net.Addr {
	return boundTo(p, func(s *server) bool { return s.direction == outbound && s.destination == dest })
}

// inboundAddr is explicitAddr for the inbound listener.
func inboundAddr(p *Proxy) net.Addr {
	return boundTo(p, func(s *server) bool { return s.direction == inbound })
}

func boundTo(p *Proxy, is func(*server) bool) net.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.servers {
		if s.queue != nil && is(s) {
			return s.queue.Addr()
		}
	}
	return nil
}

// refusing returns an address where nobody listens, unless the test itself does.
func (w *world) refusing() string {
	w.t.Helper()
	return sockettest.Reserve(w.t)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func httpClient(t testing.TB) *http.Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

func get(t testing.TB, c *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// raw sends bytes and returns the parsed answer with the connection, which is
// still open.
func raw(t testing.TB, addr, request, method string) (*http.Response, *bufio.Reader, *net.TCPConn) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	return resp, br, c.(*net.TCPConn)
}

// fake serves each connection of a listener with fn, on a goroutine that the test
// waits for.
func fake(t testing.TB, fn func(n int, c *net.TCPConn)) string {
	t.Helper()
	l := listen(t)
	ended := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-ended })
	go func() {
		defer close(ended)
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fn(n, c.(*net.TCPConn))
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

// fakes is fake for several connections at a time.
func fakes(t testing.TB, fn func(c *net.TCPConn)) string {
	t.Helper()
	l := listen(t)
	var wg sync.WaitGroup
	var conns sync.Map
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Store(c, nil)
			wg.Go(func() {
				fn(c.(*net.TCPConn))
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		conns.Range(func(c, _ any) bool { _ = c.(net.Conn).Close(); return true })
		wg.Wait()
	})
	return l.Addr().String()
}
