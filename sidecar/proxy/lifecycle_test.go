package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

func TestAPortThatIsTakenIsNamedAndNothingIsLeftOpen(t *testing.T) {
	w := newWorld(t)
	taken := listen(t)
	free := w.refusing()
	p, err := New(Config{Routes: routes.NewStore(nil, nil), Upstreams: upstream.New(upstream.Config{}), Explicit: []Explicit{
		{Listen: free, Destination: dest},
		{Listen: taken.Addr().String(), Destination: mesh.Destination{Service: orders, Port: 81}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Run(context.Background())
	if err == nil || !strings.Contains(err.Error(), taken.Addr().String()) || !strings.Contains(err.Error(), "orders.shop.mesh:81") {
		t.Errorf("Run: %v, want an error that names the address and the service", err)
	}
	l, err := net.Listen("tcp", free)
	if err != nil {
		t.Fatalf("the other listener stayed open: %v", err)
	}
	_ = l.Close()
	if err := p.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestAConfigWithoutItsPartsIsRefusedWithAllFaults(t *testing.T) {
	_, err := New(Config{Explicit: []Explicit{{Listen: "nowhere", Destination: dest}}, Inbound: &Inbound{Listen: "x", Ports: []Served{{Target: "y", Service: orders}}}})
	if err == nil || len(strings.Split(err.Error(), "\n")) != 5 {
		t.Errorf("got %v, want five faults", err)
	}
}

func TestTheFirstConnectionWaitsForItsRoute(t *testing.T) {
	w := newWorld(t)
	good := w.program(http.HandlerFunc(echoBody))
	asked := make(chan mesh.Destination, 1)
	set := upstream.New(upstream.Config{})
	store := routes.NewStore(set.Update, func(d mesh.Destination) { asked <- d })
	t.Cleanup(set.Close)
	p, err := New(Config{Routes: store, Upstreams: set, Explicit: []Explicit{{Listen: "127.0.0.1:0", Destination: dest}}})
	if err != nil {
		t.Fatal(err)
	}
	w.run(p)
	got := make(chan string)
	go func() {
		resp, err := http.Get("http://" + explicitAddr(p).String())
		if err != nil {
			got <- err.Error()
			return
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		got <- string(b)
	}()
	if d := <-asked; d != dest {
		t.Errorf("subscribed to %s", d)
	}
	r := route(mesh.HTTP, plainAt("a", good))
	store.Replace([]*mesh.Route{r}, nil)
	if b := <-got; b != "GET " {
		t.Errorf("got %q", b)
	}
}

func TestAnAbsentDestinationIs404(t *testing.T) {
	w := newWorld(t)
	store := routes.NewStore(nil, nil)
	store.Replace(nil, []mesh.Destination{dest})
	set := upstream.New(upstream.Config{})
	t.Cleanup(set.Close)
	p, err := New(Config{Routes: store, Upstreams: set, Explicit: []Explicit{{Listen: "127.0.0.1:0", Destination: dest}}})
	if err != nil {
		t.Fatal(err)
	}
	w.run(p)
	resp, err := httpClient(t).Get("http://" + explicitAddr(p).String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if s := resp.Header.Get("Proxy-Status"); resp.StatusCode != 404 || !strings.HasPrefix(s, "isthmus-outbound; error=destination_not_found") {
		t.Errorf("%d, Proxy-Status %q", resp.StatusCode, s)
	}
}

func TestShutdownFinishesWhatRunsAndEndsTheRest(t *testing.T) {
	w := newWorld(t)
	entered, release := make(chan struct{}), make(chan struct{})
	ep := w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(entered)
			<-release
		}
		fmt.Fprint(rw, "done")
	}))
	p := w.outboundProxy(route(mesh.HTTP, ep))
	addr := explicitAddr(p).String()

	// One connection is idle after a request, one is busy.
	resp, idle, _ := raw(t, addr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET")
	_, _ = io.Copy(io.Discard, resp.Body)
	busy, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	fmt.Fprint(busy, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	<-entered

	ended := make(chan error, 1)
	go func() { ended <- p.Shutdown(context.Background()) }()
	if _, err := idle.ReadByte(); err != io.EOF {
		t.Errorf("the idle connection: %v, want EOF", err)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		// In the kernel's queue at best: it must end.
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a connection was accepted during the drain")
		}
		_ = c.Close()
	}
	close(release)
	resp, err = http.ReadResponse(bufio.NewReader(busy), nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); string(b) != "done" || err != nil || !resp.Close {
		t.Errorf("the running request: %q, %v, close %v", b, err, resp.Close)
	}
	if err := <-ended; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestShutdownAbortsWhatDoesNotEnd(t *testing.T) {
	w := newWorld(t)
	entered := make(chan struct{})
	ep := w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}))
	p := w.outboundProxy(route(mesh.HTTP, ep))
	c, err := net.Dial("tcp", explicitAddr(p).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v, want the context's error", err)
	}
}

func TestAnIdleConnectionGivesItsMemoryBackAndGoesOn(t *testing.T) {
	w := newWorld(t)
	ep := w.web("east", "orders-1", http.HandlerFunc(echoBody))
	r := route(mesh.HTTP, ep)
	set := upstream.New(upstream.Config{Identity: w.caller, Cluster: "east"})
	t.Cleanup(set.Close)
	store := routes.NewStore(set.Update, nil)
	store.Replace([]*mesh.Route{r}, nil)
	p, err := New(Config{Routes: store, Upstreams: set, Explicit: []Explicit{{Listen: "127.0.0.1:0", Destination: dest}}})
	if err != nil {
		t.Fatal(err)
	}
	p.servers[0].leads.Load().http.Park = 0 // at once
	w.run(p)
	_, br, c := raw(t, explicitAddr(p).String(), "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none", "HEAD")
	for i := range 5 {
		if i > 0 {
			fmt.Fprint(c, "PUT / HTTP/1.1\r\n")
			fmt.Fprint(c, "Host: a\r\nContent-Length: 3\r\n\r\none")
			if _, err := http.ReadResponse(br, &http.Request{Method: "HEAD"}); err != nil {
				t.Fatal(err)
			}
		}
		b := make([]byte, len("PUT one"))
		if _, err := io.ReadFull(br, b); err != nil || string(b) != "PUT one" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	_ = c.CloseWrite()
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("after our end: %v, want EOF", err)
	}
}

func TestMetricsCountWhoServed(t *testing.T) {
	w := newWorld(t)
	reg := prometheus.NewRegistry()
	r := route(mesh.HTTP, plainAt("a", w.program(http.HandlerFunc(echoBody))))
	set := upstream.New(upstream.Config{})
	t.Cleanup(set.Close)
	set.Update([]*mesh.Route{r})
	p, err := New(Config{Routes: routes.NewStore(nil, nil), Upstreams: set, Metrics: reg, Explicit: []Explicit{{Listen: "127.0.0.1:0", Destination: dest}}})
	if err != nil {
		t.Fatal(err)
	}
	w.run(p)
	c := httpClient(t)
	for range 3 {
		get(t, c, "http://"+explicitAddr(p).String())
	}
	// The last one is counted after its answer is out: ask once more, whose head
	// is read after that.
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "isthmus_requests_total" {
			continue
		}
		for _, m := range f.Metric {
			if v := m.GetCounter().GetValue(); v < 2 {
				t.Errorf("%v requests counted, want at least 2", v)
			}
		}
		return
	}
	t.Error("no isthmus_requests_total")
}
