package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestTCPPassesWithHalfClose(t *testing.T) {
	w := newWorld(t)
	target := fake(t, func(_ int, c *net.TCPConn) {
		fmt.Fprint(c, "hello\n") // the server speaks first
		n, err := io.Copy(io.Discard, c)
		fmt.Fprintf(c, "%d bytes, %v", n, err)
	})
	ep := w.instance("east", "orders-1", target, mesh.TCP)
	dead := plainAt("orders-2", w.refusing())
	addr := w.outbound(route(mesh.TCP, ep, dead))
	for range 4 { // one of them meets the dead instance first
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		hello := make([]byte, 6)
		if _, err := io.ReadFull(c, hello); err != nil || string(hello) != "hello\n" {
			t.Fatalf("%q, %v", hello, err)
		}
		if _, err := io.Copy(c, &pattern{left: 3 << 20}); err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).CloseWrite()
		b, err := io.ReadAll(c)
		if want := fmt.Sprintf("%d bytes, <nil>", 3<<20); string(b) != want || err != nil {
			t.Errorf("%q, %v; want %q", b, err, want)
		}
		c.Close()
	}
}

func TestATCPConnectionThatBreaksIsResetAndNotEnded(t *testing.T) {
	w := newWorld(t)
	target := fake(t, func(_ int, c *net.TCPConn) {
		fmt.Fprint(c, "x")
		_, _ = c.Read(make([]byte, 1))
		_ = c.SetLinger(0)
	})
	addr := w.outbound(route(mesh.TCP, w.instance("east", "orders-1", target, mesh.TCP)))
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.ReadFull(c, make([]byte, 1))
	fmt.Fprint(c, "y")
	if b, err := io.ReadAll(c); err == nil {
		t.Errorf("%q looks like an ordinary end", b)
	}
}

func TestATCPConnectionWithNobodyToTakeItIsReset(t *testing.T) {
	w := newWorld(t)
	addr := w.outbound(route(mesh.TCP, plainAt("a", w.refusing())))
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.ReadAll(c); err == nil {
		t.Error("an ordinary end, want a reset")
	}
}

func TestInboundTakesRawTLSForTheServiceThatSNINames(t *testing.T) {
	w := newWorld(t)
	target := fake(t, func(_ int, c *net.TCPConn) { _, _ = io.Copy(c, c) })
	ep := w.instance("east", "orders-1", target, mesh.TCP)
	foreign := identitytest.New(t, "other.example").Workload("east", "shop", "web")
	for _, c := range []struct {
		name   string
		config *tls.Config
		ok     bool
	}{
		{"raw", w.caller.ClientTLS("orders.shop.mesh", identity.AnyMember()), true},
		{"pinned to a cluster", w.caller.ClientTLS("orders.shop.east.mesh", identity.AnyMember()), true},
		{"with the port", w.caller.ClientTLS("_80.orders.shop.mesh", identity.AnyMember()), true},
		{"another port", w.caller.ClientTLS("_81.orders.shop.mesh", identity.AnyMember()), false},
		{"another service", w.caller.ClientTLS("cart.shop.mesh", identity.AnyMember()), false},
		{"no mesh name", w.caller.ClientTLS("example.com", identity.AnyMember()), false},
		{"another trust domain", foreign.ClientTLS("orders.shop.mesh", func(identity.Peer) error { return nil }), false},
		{"no certificate", &tls.Config{InsecureSkipVerify: true, ServerName: "orders.shop.mesh"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tcp, err := net.Dial("tcp", ep.Address)
			if err != nil {
				t.Fatal(err)
			}
			defer tcp.Close()
			_ = tcp.SetDeadline(time.Now().Add(time.Minute))
			conn := tls.Client(tcp, c.config)
			fmt.Fprint(conn, "ping") // fails here, or at the latest below
			_ = conn.CloseWrite()
			b, err := io.ReadAll(conn)
			if ok := string(b) == "ping" && err == nil; ok != c.ok {
				t.Errorf("%q, %v; want accepted %v", b, err, c.ok)
			}
		})
	}
}

// A caller that negotiates nothing must not get around what the HTTP engine sees to.
func TestAnHTTPServiceIsSpokenToInHTTPWhateverIsNegotiated(t *testing.T) {
	w := newWorld(t)
	target := fake(t, func(_ int, c *net.TCPConn) {
		for br := bufio.NewReader(c); ; {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			who := r.Header.Get("X-Forwarded-Client-Cert")
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(who), who)
		}
	})
	ep := w.instance("east", "orders-1", target, mesh.HTTP)
	for _, alpn := range [][]string{{"http/1.1"}, nil} {
		conn, err := tls.Dial("tcp", ep.Address, w.caller.ClientTLS("orders.shop.mesh", identity.AnyMember(), alpn...))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: orders.shop.mesh\r\nX-Forwarded-Client-Cert: URI=spiffe://mesh.example/cluster/east/ns/shop/sa/admin\r\nConnection: close\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("with ALPN %q: %v", alpn, err)
		}
		b, err := io.ReadAll(resp.Body)
		conn.Close()
		if err != nil || !strings.HasSuffix(string(b), "URI="+w.caller.ID().String()) || strings.Contains(string(b), "admin") {
			t.Errorf("with ALPN %q the program took the caller for %q, %v", alpn, b, err)
		}
	}
	if conn, err := tls.Dial("tcp", ep.Address, w.caller.ClientTLS("orders.shop.mesh", identity.AnyMember(), "imap")); err == nil {
		conn.Close()
		t.Error("a caller that insists on another protocol was accepted")
	}
}

func TestARelayedConnectionIsNoPooledOne(t *testing.T) {
	w := newWorld(t)
	var conns atomic.Int64
	target := fakes(t, func(c *net.TCPConn) {
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", conns.Add(1))
		_, _ = c.Read(make([]byte, 1<<10))
		_, _ = c.Read(make([]byte, 1))
	})
	// A route may change its protocol under a client's connection.
	p := w.outboundProxy(route(mesh.HTTP, plainAt("a", target)))
	addr := explicitAddr(p).String()
	c := httpClient(t)
	get(t, c, "http://"+addr)
	p.cfg.Upstreams.Update([]*mesh.Route{route(mesh.TCP, plainAt("a", target))})
	if _, b := get(t, c, "http://"+addr); b != "2" {
		t.Fatalf("connection %s, want the second, which is put into the pool", b)
	}
	c.CloseIdleConnections()
	_, br, _ := raw(t, addr, "", "")
	if b, err := io.ReadAll(io.LimitReader(br, 1)); string(b) != "3" {
		t.Errorf("relayed to connection %s, %v; want a third", b, err)
	}
}
