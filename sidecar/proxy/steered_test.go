package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// steered is a sidecar that callers of its program's own port are sent to, at the
// address that is returned; by is whom the program was last dialled for.
func (w *world) steered(target string, protocol mesh.Protocol, permissive bool) (addr string, by *atomic.Value) {
	w.t.Helper()
	by = new(atomic.Value)
	p, err := New(Config{Identity: w.mesh.Workload("east", orders.Namespace, orders.Name), Log: w.log, Inbound: &Inbound{
		Listen: "127.0.0.1:0",
		Ports: []Served{{Service: orders, Port: dest.Port, Target: target, Protocol: protocol, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			by.Store(Caller(ctx))
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		}}},
		Steered: &Steered{Listen: []string{"127.0.0.1:0"}, Permissive: permissive},
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.run(p)
	if n := len(p.Steered()); n != 1 {
		w.t.Fatalf("%d listeners", n)
	}
	return p.Steered()[0].Addr().String(), by
}

func whoami() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "for %q, cert %q", r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Client-Cert"))
	})
}

// secure is an HTTP client with the caller's certificate.
func (w *world) secure() *http.Client {
	c := httpClient(w.t)
	config := w.caller.ClientTLS(orders.Host(), identity.AnyMember(), mesh.HTTP.ProgramALPN()...)
	c.Transport.(*http.Transport).DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		d := tls.Dialer{Config: config}
		return d.DialContext(ctx, network, addr)
	}
	return c
}

func TestAStrictServiceTellsAPlainHTTPCallerWhyItIsRefused(t *testing.T) {
	w := newWorld(t)
	var reached atomic.Int32
	addr, _ := w.steered(w.program(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) })), mesh.HTTP, false)
	for range 2 { // the second on the same connection
		resp, err := httpClient(t).Get("http://" + addr)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 403 || !strings.Contains(string(b), "interception.inbound") ||
			!strings.Contains(resp.Header.Get("Proxy-Status"), "http_request_denied") {
			t.Errorf("%d %q, %v", resp.StatusCode, b, resp.Header)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("the program got %d requests", n)
	}
}

func TestAStrictServiceResetsAPlainTCPCaller(t *testing.T) {
	w := newWorld(t)
	var reached atomic.Int32
	target := fake(t, func(int, *net.TCPConn) { reached.Add(1) })
	addr, _ := w.steered(target, mesh.TCP, false)
	for _, say := range []string{"\x00\x00\x00\x08", ""} { // a database's client, and one that waits
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprint(c, say)
		if b, err := io.ReadAll(c); err == nil || len(b) > 0 || !strings.Contains(err.Error(), "reset") {
			t.Errorf("%q: %q, %v", say, b, err)
		}
		c.Close()
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("the program got %d connections", n)
	}
}

// inPod is a sidecar to which callers of every port of its pod come; where each of them went is
// what to says.
func (w *world) inPod(permissive bool, to string) string {
	w.t.Helper()
	p, err := New(Config{Identity: w.mesh.Workload("east", orders.Namespace, orders.Name), Log: w.log, Inbound: &Inbound{
		Listen: "127.0.0.1:0",
		Steered: &Steered{
			Listen: []string{"127.0.0.1:0"}, Permissive: permissive, WayOut: "go another way",
			Original: func(net.Conn) (netip.AddrPort, bool) {
				a, err := netip.ParseAddrPort(to)
				return a, err == nil
			},
			Others: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "tcp", to.String())
			},
		},
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.run(p)
	return p.Steered()[0].Addr().String()
}

func TestAPortThatIsNobodysIsClosedToPlainCallersUnlessThePodIsPermissive(t *testing.T) {
	w := newWorld(t)
	var reached atomic.Int32
	target := w.program(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { reached.Add(1); fmt.Fprint(w, "the program") }))
	for _, c := range []struct {
		permissive bool
		to         string
		status     int
		want       string
	}{
		{false, target, 403, "go another way"},
		{true, target, 200, "the program"},
		{true, "", 403, "go another way"}, // who calls the sidecar's own port does not come back to it for ever
	} {
		resp, err := httpClient(t).Get("http://" + w.inPod(c.permissive, c.to))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || !strings.Contains(string(b), c.want) {
			t.Errorf("permissive %v, to %q: %d %q, want %d %q", c.permissive, c.to, resp.StatusCode, b, c.status, c.want)
		}
	}
	if n := reached.Load(); n != 1 {
		t.Errorf("the program got %d requests, want 1", n)
	}
}

// linesOf counts the lines of a log that say something.
type linesOf struct {
	what string
	n    atomic.Int64
}

func (l *linesOf) Write(b []byte) (int, error) {
	l.n.Add(int64(strings.Count(string(b), l.what)))
	return len(b), nil
}

func TestStrangersAtTheProgramsOwnPortDoNotFillTheLog(t *testing.T) {
	w := newWorld(t)
	lines := &linesOf{what: "refused a caller"}
	w.log = slog.New(slog.NewTextHandler(lines, nil))
	addr, _ := w.steered(fake(t, func(int, *net.TCPConn) {}), mesh.TCP, false)
	begun := time.Now()
	for range 200 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprint(c, "\x00\x00\x00\x08")
		_, _ = io.ReadAll(c) // it is reset
		c.Close()
	}
	if n := lines.n.Load(); n == 0 || n > maxLines+1+int64(time.Since(begun)/time.Second) {
		t.Errorf("200 refusals are %d lines in %s", n, time.Since(begun))
	}
}

func TestACallerOfTheMeshIsServedAtTheProgramsOwnPort(t *testing.T) {
	for _, permissive := range []bool{false, true} {
		w := newWorld(t)
		addr, by := w.steered(w.program(whoami()), mesh.HTTP, permissive)
		code, body := get(t, w.secure(), "https://"+addr)
		if code != 200 || !strings.Contains(body, "URI="+w.caller.ID().String()) {
			t.Errorf("permissive %v: %d %q", permissive, code, body)
		}
		if a := by.Load().(netip.AddrPort); a.IsValid() {
			t.Errorf("permissive %v: its connection is said to be %s's, but others will use it", permissive, a)
		}
	}
}

func TestAPermissiveServiceServesPlainHTTPWithoutWhatItClaims(t *testing.T) {
	w := newWorld(t)
	addr, by := w.steered(w.program(whoami()), mesh.HTTP, true)
	req, err := http.NewRequest(http.MethodGet, "http://"+addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", "192.0.2.1")
	req.Header.Set("X-Forwarded-Client-Cert", "URI=spiffe://mesh.example/cluster/east/ns/shop/sa/admin")
	resp, err := httpClient(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if got, want := string(b), `for "", cert ""`; resp.StatusCode != 200 || got != want {
		t.Errorf("%d %q, want %q", resp.StatusCode, got, want)
	}
	if a := by.Load().(netip.AddrPort); a.IsValid() {
		t.Errorf("its connection is said to be %s's, but others will use it", a)
	}
}

func TestAPermissiveTCPServiceRelaysAnythingAndSaysForWhom(t *testing.T) {
	w := newWorld(t)
	target := fake(t, func(_ int, c *net.TCPConn) { // the server speaks first
		fmt.Fprint(c, "hello\n")
		b := make([]byte, 5)
		_, _ = io.ReadFull(c, b)
		fmt.Fprintf(c, "%q", b)
	})
	addr, by := w.steered(target, mesh.TCP, true)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	hello := make([]byte, 6)
	if _, err := io.ReadFull(c, hello); err != nil || string(hello) != "hello\n" {
		t.Fatalf("%q, %v", hello, err)
	}
	fmt.Fprint(c, "\x16\x03\x01\x00\x05") // TLS, which is the program's own business
	b, err := io.ReadAll(c)
	if want := `"\x16\x03\x01\x00\x05"`; string(b) != want || err != nil {
		t.Errorf("%q, %v, want %q", b, err, want)
	}
	if a := by.Load().(netip.AddrPort); a.String() != c.LocalAddr().String() {
		t.Errorf("the program was dialled for %s, want %s", a, c.LocalAddr())
	}
}
