package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// interceptor stands for the kernel: connections from a loopback address of their
// own went to what that stands for.
type interceptor struct {
	*Proxy
	set      *upstream.Set
	store    *routes.Store
	asked    chan mesh.Destination // on-demand subscriptions
	registry *prometheus.Registry
}

// The virtual addresses of the tests, and the source address that stands for each.
var (
	ordersVIP  = netip.MustParseAddrPort("240.66.18.52:80")
	otherPort  = netip.MustParseAddrPort("240.66.18.52:5432")
	ordersVIP6 = netip.MustParseAddrPort("[fd69:7374:6d75::1234]:80")
	nobodysVIP = netip.MustParseAddrPort("240.66.0.1:80")

	destinations = map[string]netip.AddrPort{
		"127.0.0.2": ordersVIP, "127.0.0.3": otherPort, "127.0.0.4": ordersVIP6, "127.0.0.5": nobodysVIP,
	}
)

func (w *world) intercept(rs ...*mesh.Route) *interceptor {
	w.t.Helper()
	return w.interceptWith(nil, rs...)
}

func (w *world) interceptWith(direct func(context.Context, netip.AddrPort) (routes.Direct, bool), rs ...*mesh.Route) *interceptor {
	w.t.Helper()
	i := &interceptor{asked: make(chan mesh.Destination, 16), registry: prometheus.NewRegistry(),
		set: upstream.New(upstream.Config{Identity: w.caller, Cluster: "east"})}
	i.store = routes.NewStore(i.set.Update, func(d mesh.Destination) { i.asked <- d })
	i.told(rs, nil)
	w.t.Cleanup(i.set.Close)
	p, err := New(Config{Identity: w.caller, Routes: i.store, Upstreams: i.set, Log: w.log, Metrics: i.registry, Captured: &Captured{
		Listen: []string{"127.0.0.1:0"},
		Original: func(c net.Conn) (netip.AddrPort, bool) {
			from, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			to, ok := destinations[from]
			return to, ok
		},
		Names: func(a netip.Addr) (mesh.Destination, bool) {
			return mesh.Destination{Service: orders}, a == ordersVIP.Addr() || a == ordersVIP6.Addr()
		},
		Direct: direct,
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	i.Proxy = w.run(p)
	return i
}

// told is what the control plane says.
func (i *interceptor) told(rs []*mesh.Route, absent []mesh.Destination) {
	i.store.Replace(rs, absent)
}

// dial connects to what the source address from stands for.
func (i *interceptor) dial(ctx context.Context, from string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return d.DialContext(ctx, "tcp", i.Captured()[0].Addr().String())
}

func (i *interceptor) mustDial(t testing.TB, from string) net.Conn {
	t.Helper()
	c, err := i.dial(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// client is an HTTP client whose connections are captured.
func (i *interceptor) client(t testing.TB, from string) *http.Client {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return i.dial(ctx, from) }}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// count returns the value of a counter for labels "name=value".
func (i *interceptor) count(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	families, err := i.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	series:
		for _, m := range f.GetMetric() {
			have := map[string]bool{}
			for _, l := range m.GetLabel() {
				have[l.GetName()+"="+l.GetValue()] = true
			}
			for _, l := range labels {
				if !have[l] {
					continue series
				}
			}
			total += m.GetCounter().GetValue()
		}
	}
	return total
}

func TestACapturedHTTPConnectionGoesWhereTheProgramWanted(t *testing.T) {
	w := newWorld(t)
	ep := w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(rw, "%s %s %s", r.Host, r.URL, r.Header.Get("X-Forwarded-For"))
	}))
	i := w.intercept(route(mesh.HTTP, ep))
	for _, from := range []string{"127.0.0.2", "127.0.0.4"} {
		c := i.client(t, from)
		for range 3 {
			code, body := get(t, c, "http://orders.shop.svc.clusterset.local/a?b=c")
			if want := "orders.shop.svc.clusterset.local /a?b=c "; code != 200 || body != want {
				t.Errorf("%d %q, want %q", code, body, want)
			}
		}
	}
	// A request counts once its answer has gone, which the client may see first.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		n := i.count(t, "isthmus_requests_total", "destination=orders.shop.mesh:80", "code=200")
		if n == 6 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v requests counted, want 6", n)
		}
	}
	if n := i.count(t, "isthmus_captured_connections_total", "result=served"); n != 2 {
		t.Errorf("%v connections counted, want 2", n)
	}
}

func TestACapturedConnectionWhoseServerSpeaksFirstIsServed(t *testing.T) {
	w := newWorld(t)
	greeting := "\x4a\x00\x00\x00\x0a8.0.36\x00" // as MySQL begins
	target := fake(t, func(_ int, c *net.TCPConn) {
		fmt.Fprint(c, greeting)
		b, err := io.ReadAll(c)
		fmt.Fprintf(c, "%q, %v", b, err)
	})
	i := w.intercept(route(mesh.TCP, w.instance("east", "orders-1", target, mesh.TCP)))
	c := i.mustDial(t, "127.0.0.2")
	b := make([]byte, len(greeting))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != greeting {
		t.Fatalf("%q, %v", b, err)
	}
	fmt.Fprint(c, "login")
	_ = c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c); string(b) != `"login", <nil>` || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

func TestAConnectionThatNobodyCapturedOrThatGoesToNobodyIsReset(t *testing.T) {
	w := newWorld(t)
	i := w.intercept(route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(echoBody))))
	for from, result := range map[string]string{"127.0.0.1": "unknown", "127.0.0.5": "unnamed"} {
		if c, err := i.dial(t.Context(), from); err == nil { // the reset may be faster
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			_, sent := fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: orders.shop.mesh\r\n\r\n")
			if b, err := io.ReadAll(c); sent == nil && err == nil || len(b) > 0 {
				t.Errorf("from %s: %q, %v; want a reset", from, b, err)
			}
			_ = c.Close()
		}
		if n := i.count(t, "isthmus_captured_connections_total", "result="+result); n != 1 {
			t.Errorf("%v counted as %s, want 1", n, result)
		}
	}
}

func TestTheFirstCapturedConnectionWaitsForItsRouteAndIsNotLost(t *testing.T) {
	w := newWorld(t)
	r := route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(echoBody)))
	i := w.intercept()
	got := make(chan string)
	c := i.client(t, "127.0.0.2")
	go func() {
		resp, err := c.Post("http://orders.shop.mesh/", "text/plain", strings.NewReader("hello"))
		if err != nil {
			got <- err.Error()
			return
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		got <- string(b)
	}()
	if d := <-i.asked; d != dest {
		t.Errorf("subscribed to %s, want %s", d, dest)
	}
	i.told([]*mesh.Route{r}, nil)
	if b := <-got; !strings.Contains(b, "hello") {
		t.Errorf("%q", b)
	}
}

func TestAPortThatDoesNotExistIsExplainedToHTTPAndResetForOthers(t *testing.T) {
	w := newWorld(t)
	r := route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(echoBody)))
	i := w.intercept(r)
	absent := mesh.Destination{Service: orders, Port: otherPort.Port()}
	i.told([]*mesh.Route{r}, []mesh.Destination{absent})

	code, body := get(t, i.client(t, "127.0.0.3"), "http://orders.shop.mesh:5432/")
	if code != 404 || !strings.Contains(body, "orders.shop.mesh:5432") {
		t.Errorf("%d %q", code, body)
	}
	for name, say := range map[string]string{
		"PostgreSQL": "\x00\x00\x00\x08\x04\xd2\x16\x2f", "TLS": "\x16\x03\x01\x02", "Redis": "*1\r\n$4\r\nPING\r\n",
		"AMQP": "AMQP\x00\x00\x09\x01", "nothing yet": "", "capitals without end": "ABCDEFGHIJKLMNOP",
	} {
		c := i.mustDial(t, "127.0.0.3")
		fmt.Fprint(c, say)
		if b, err := io.ReadAll(c); err == nil || len(b) > 0 {
			t.Errorf("%s: %q, %v; want a reset", name, b, err)
		}
	}
	// A method that comes byte by byte is still one.
	c := i.mustDial(t, "127.0.0.3")
	for _, b := range "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" {
		fmt.Fprintf(c, "%c", b)
	}
	if b, err := io.ReadAll(c); !strings.HasPrefix(string(b), "HTTP/1.1 404 ") || err != nil {
		t.Errorf("byte by byte: %q, %v", b, err)
	}
	if n := i.count(t, "isthmus_captured_connections_total", "result=unrouted"); n != 8 {
		t.Errorf("%v counted as unrouted, want 8", n)
	}
	families, _ := i.registry.Gather()
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.HasSuffix(l.GetValue(), ":5432") {
					t.Errorf("%s has a series for a port that does not exist", f.GetName())
				}
			}
		}
	}
}

func TestAProgramThatTriesManyPortsCausesNoSubscriptions(t *testing.T) {
	w := newWorld(t)
	r := route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(echoBody)))
	list := &mesh.Route{Destination: mesh.Destination{Service: orders}, Protocol: mesh.TCP,
		Ports: []mesh.RoutePort{{Number: 80, Protocol: mesh.HTTP}, {Number: 443, Protocol: mesh.TCP}}}
	i := w.intercept(r, list)
	code, body := get(t, i.client(t, "127.0.0.3"), "http://orders.shop.mesh:5432/")
	if code != 404 || !strings.Contains(body, "port 80, 443") {
		t.Errorf("%d %q", code, body)
	}
	if code, _ := get(t, i.client(t, "127.0.0.2"), "http://orders.shop.mesh/"); code != 200 {
		t.Errorf("port 80: %d", code)
	}
	if len(i.asked) > 0 {
		t.Errorf("subscribed to %s", <-i.asked)
	}
}

func TestDestinationsBeyondTheBoundAreServedAndCountedTogether(t *testing.T) {
	w := newWorld(t)
	i := w.intercept()
	captured := &capturedServers{p: i.Proxy, servers: map[routes.Direct]*server{}}
	for n := range maxCaptured + 1 {
		to := routes.Direct{Destination: mesh.Destination{Service: orders, Port: uint16(1 + n)}}
		s := captured.keep(to, captured.known(to))
		want := s.destination.String()
		if n == maxCaptured {
			want = otherDestinations
		}
		if s.label != want {
			t.Errorf("destination %d counts as %q, want %q", n, s.label, want)
		}
		if again := captured.keep(to, captured.known(to)); n < maxCaptured && again != s {
			t.Errorf("destination %d has two servers", n)
		}
	}
}

func TestADrainLetsCapturedConnectionsEnd(t *testing.T) {
	w := newWorld(t)
	target := fake(t, func(_ int, c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		_, _ = c.Write(b)
	})
	i := w.intercept(route(mesh.TCP, w.instance("east", "orders-1", target, mesh.TCP)))
	c := i.mustDial(t, "127.0.0.2")
	fmt.Fprint(c, "hel")
	for i.conns[outbound].Len() == 0 {
		time.Sleep(time.Millisecond)
	}
	drained := make(chan error)
	go func() { drained <- i.Shutdown(t.Context()) }()
	fmt.Fprint(c, "lo")
	_ = c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c); string(b) != "hello" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func TestACapturedConfigIsRefusedWithAllItsFaults(t *testing.T) {
	_, err := New(Config{Captured: &Captured{Listen: []string{"nowhere"}}})
	if err == nil || len(strings.Split(err.Error(), "\n")) != 3 {
		t.Errorf("got %v, want three faults", err)
	}
	if _, err := New(Config{Captured: &Captured{}}); err == nil {
		t.Error("an empty config is fine")
	}
}

func TestBothFamiliesAreListenedOnAndAPortThatIsTakenIsNamed(t *testing.T) {
	taken := listen(t)
	free := listen(t)
	_ = free.Close()
	p, err := New(Config{Routes: routes.NewStore(nil, nil), Upstreams: upstream.New(upstream.Config{}), Captured: &Captured{
		Listen:   []string{free.Addr().String(), taken.Addr().String()},
		Original: func(net.Conn) (netip.AddrPort, bool) { return netip.AddrPort{}, false },
		Names:    func(netip.Addr) (mesh.Destination, bool) { return mesh.Destination{}, false },
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(context.Background()); err == nil || !strings.Contains(err.Error(), taken.Addr().String()) || !strings.Contains(err.Error(), "captured") {
		t.Errorf("Run: %v", err)
	}
	if p.Captured() != nil {
		t.Errorf("still listening on %v", p.Captured())
	}
	_ = p.Shutdown(context.Background())
}
