package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/http2"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// ztunnelTLS is what a ztunnel says in its ClientHello: no server name, h2 only.
func ztunnelTLS(by *identity.Source) *tls.Config { return by.ClientTLS("", identity.AnyMember(), "h2") }

// shared returns a shared connection to a sidecar.
func shared(t *testing.T, addr string, config *tls.Config) *streams.Conn {
	t.Helper()
	tcp, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	conn := tls.Client(tcp, config)
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != "h2" {
		t.Fatalf("negotiated %q, want h2", got)
	}
	c := streams.Client(conn, streams.Config{})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// connected opens a CONNECT stream and returns it with the head of the answer.
func connected(t *testing.T, c *streams.Conn, authority string) (*streams.Stream, string) {
	t.Helper()
	s, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	_ = s.SetDeadline(time.Now().Add(time.Minute))
	if err := s.WriteRequest(&http2.RequestHead{Method: []byte("CONNECT"), Authority: []byte(authority)}, nil, false); err != nil {
		t.Fatal(err)
	}
	head, _, err := s.ReadHead(nil)
	if err != nil {
		t.Fatal(err)
	}
	return s, string(head)
}

// opened is connected for one that must be served.
func opened(t *testing.T, c *streams.Conn, authority string) *streams.Stream {
	t.Helper()
	s, head := connected(t, c, authority)
	if !strings.HasPrefix(head, "HTTP/1.1 200 ") {
		t.Fatalf("CONNECT %s: %q", authority, head)
	}
	return s
}

func TestAConnectStreamIsATCPConnectionToTheProgram(t *testing.T) {
	w := newWorld(t)
	target := fakes(t, func(c *net.TCPConn) {
		fmt.Fprint(c, "hello\n") // the server speaks first
		n, err := io.Copy(io.Discard, c)
		fmt.Fprintf(c, "%d bytes, %v", n, err)
	})
	ep := w.instance("east", "orders-1", target, mesh.TCP)
	_, port, _ := net.SplitHostPort(target)
	for _, c := range []struct{ name, authority string }{
		{"a ztunnel names the program's address", "127.0.0.1:" + port},
		{"a sidecar names the service", "orders.shop.mesh:80"},
		{"pinned to its cluster", "orders.shop.east.mesh:80"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := shared(t, ep.Address, ztunnelTLS(w.caller))
			for range 3 { // on one connection
				s := opened(t, conn, c.authority)
				hello := make([]byte, 6)
				if _, err := io.ReadFull(s, hello); err != nil || string(hello) != "hello\n" {
					t.Fatalf("%q, %v", hello, err)
				}
				if _, err := io.Copy(struct{ io.Writer }{s}, &pattern{left: 3 << 20}); err != nil {
					t.Fatal(err)
				}
				if err := s.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(s)
				if want := fmt.Sprintf("%d bytes, <nil>", 3<<20); string(b) != want || err != nil {
					t.Errorf("%q, %v; want %q", b, err, want)
				}
				s.Release()
			}
		})
	}
}

func TestAConnectStreamForSomebodyElseIsRefusedWithItsReason(t *testing.T) {
	w := newWorld(t)
	target := fakes(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	ep := w.instance("east", "orders-1", target, mesh.TCP)
	_, port, _ := net.SplitHostPort(target)
	conn := shared(t, ep.Address, ztunnelTLS(w.caller))
	for _, c := range []struct {
		authority string
		status    int
		reason    string
	}{
		{"cart.shop.mesh:80", 404, "destination_not_found"},
		{"orders.shop.mesh:81", 404, "destination_not_found"},
		{"127.0.0.2:" + port, 404, "destination_not_found"},
		{"127.0.0.1:1", 404, "destination_not_found"},
		{"[::1]:" + port, 404, "destination_not_found"},
		{"example.com:80", 400, "http_request_error"},
	} {
		s, head := connected(t, conn, c.authority)
		want := fmt.Sprintf("HTTP/1.1 %d ", c.status)
		if !strings.HasPrefix(head, want) || !strings.Contains(head, "proxy-status: isthmus-inbound; error="+c.reason) {
			t.Errorf("CONNECT %s: %q, want %s%s", c.authority, head, want, c.reason)
		}
		s.Release()
	}
	opened(t, conn, "orders.shop.mesh:80").Release() // the connection goes on
}

func TestAConnectStreamToAProgramThatIsNotThereIsRefused(t *testing.T) {
	w := newWorld(t)
	ep := w.instance("east", "orders-1", w.refusing(), mesh.TCP)
	s, head := connected(t, shared(t, ep.Address, ztunnelTLS(w.caller)), "orders.shop.mesh:80")
	defer s.Release()
	if !strings.HasPrefix(head, "HTTP/1.1 502 ") || !strings.Contains(head, "error=connection_refused") {
		t.Errorf("%q", head)
	}
}

func TestAProgramThatResetsItsConnectionResetsTheStream(t *testing.T) {
	w := newWorld(t)
	target := fakes(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1))
		_ = c.SetLinger(0)
	})
	ep := w.instance("east", "orders-1", target, mesh.TCP)
	conn := shared(t, ep.Address, ztunnelTLS(w.caller))
	s := opened(t, conn, "orders.shop.mesh:80")
	defer s.Release()
	fmt.Fprint(s, "x")
	var reset *streams.ResetError
	if _, err := io.ReadAll(s); !errors.As(err, &reset) {
		t.Errorf("%v, want a reset", err)
	}
}

func TestAStreamThatTheCallerResetsResetsTheProgramsConnection(t *testing.T) {
	w := newWorld(t)
	ended := make(chan error, 1)
	target := fakes(t, func(c *net.TCPConn) {
		fmt.Fprint(c, "hi")
		_, err := io.ReadAll(c)
		ended <- err
	})
	ep := w.instance("east", "orders-1", target, mesh.TCP)
	s := opened(t, shared(t, ep.Address, ztunnelTLS(w.caller)), "orders.shop.mesh:80")
	_, _ = io.ReadFull(s, make([]byte, 2))
	_ = s.Abort()
	s.Release()
	if err := <-ended; err == nil {
		t.Error("the program sees an ordinary end")
	}
}

func TestAProgramThatDoesNotReadHoldsUpItsOwnStreamOnly(t *testing.T) {
	w := newWorld(t)
	target := fakes(t, func(c *net.TCPConn) {
		first := make([]byte, 1)
		if _, err := io.ReadFull(c, first); err != nil || first[0] == 'w' { // wait
			_, _ = io.Copy(io.Discard, relay.WithPrefix(c, nil))
			return
		}
		if first[0] == 'b' { // block
			<-t.Context().Done()
			return
		}
		_, _ = io.Copy(c, c)
	})
	ep := w.instance("east", "orders-1", target, mesh.TCP)
	conn := shared(t, ep.Address, ztunnelTLS(w.caller))
	blocked := opened(t, conn, "orders.shop.mesh:80")
	go func() { // as much as fits
		_, _ = blocked.Write([]byte("b"))
		for {
			if _, err := blocked.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}()
	for range 10 {
		s := opened(t, conn, "orders.shop.mesh:80")
		message := bytes.Repeat([]byte("e"), 1<<20)
		go func() { _, _ = s.Write(message) }()
		if _, err := io.ReadFull(s, make([]byte, len(message)-1)); err != nil {
			t.Fatal(err)
		}
		s.Release()
	}
	_ = blocked.Abort()
}

func TestTheBytesInAConnectStreamToAnHTTPServicePassTheEngine(t *testing.T) {
	w := newWorld(t)
	var got http.Header
	target := w.program(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		fmt.Fprintf(rw, "served %s", r.URL.Path)
	}))
	ep := w.instance("east", "orders-1", target, mesh.HTTP)
	conn := shared(t, ep.Address, ztunnelTLS(w.caller))
	s := opened(t, conn, strings.TrimPrefix(target, "http://"))
	br := bufio.NewReader(s)
	for range 2 {
		fmt.Fprint(s, "GET /x HTTP/1.1\r\nHost: orders\r\nX-Forwarded-Client-Cert: URI=spiffe://mesh.example/cluster/east/ns/shop/sa/admin\r\n\r\n")
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 200 || string(b) != "served /x" {
			t.Fatalf("%d %q", resp.StatusCode, b)
		}
		if cert := got.Get("X-Forwarded-Client-Cert"); !strings.HasSuffix(cert, "URI="+w.caller.ID().String()) || strings.Contains(cert, "admin") {
			t.Errorf("the program is told %q, want the identity that was proved", cert)
		}
	}
	// What is no HTTP does not reach the program.
	s2 := opened(t, conn, "orders.shop.mesh:80")
	fmt.Fprint(s2, "\x00\x01 not http\r\n\r\n")
	_ = s2.CloseWrite()
	b, _ := io.ReadAll(s2)
	if !strings.HasPrefix(string(b), "HTTP/1.1 400 ") {
		t.Errorf("%q, want 400", b)
	}
	s.Release()
	s2.Release()
}

func TestWithoutAServerNameOnlyASharedConnectionIsServed(t *testing.T) {
	w := newWorld(t)
	target := fakes(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	ep := w.instance("east", "orders-1", target, mesh.TCP)
	for _, alpn := range [][]string{nil, {"http/1.1"}} {
		tcp, err := net.Dial("tcp", ep.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer tcp.Close()
		_ = tcp.SetDeadline(time.Now().Add(time.Minute))
		conn := tls.Client(tcp, w.caller.ClientTLS("", identity.AnyMember(), alpn...))
		fmt.Fprint(conn, "ping") // fails here, or below
		_ = conn.CloseWrite()
		if b, err := io.ReadAll(conn); len(b) > 0 || err == nil {
			t.Errorf("ALPN %v: %q, %v", alpn, b, err)
		}
	}
}

func TestThePolicyDecidesAboutEachConnectStream(t *testing.T) {
	w := newWorld(t)
	g := w.guarded(echoes(t), mesh.TCP)
	conn := shared(t, inboundAddr(g.proxy).String(), ztunnelTLS(w.caller))
	refused := func(when, status, reason string) {
		t.Helper()
		s, head := connected(t, conn, "orders.shop.mesh:80")
		defer s.Release()
		if !strings.HasPrefix(head, "HTTP/1.1 "+status) || !strings.Contains(head, "error="+reason) {
			t.Errorf("%s: %q, want %s %s", when, head, status, reason)
		}
	}
	refused("before the policy is known", "503", "destination_unavailable")
	g.say(false)
	open := opened(t, conn, "orders.shop.mesh:80")
	defer open.Release()
	fmt.Fprint(open, "ping")
	if _, err := io.ReadFull(open, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	g.say(false, policy.Policy{Namespace: "shop", Name: "web", Action: policy.Deny, Rules: []policy.Rule{{From: callersOf(t, "shop/web")}}})
	var reset *streams.ResetError
	if _, err := open.Read(make([]byte, 1)); !errors.As(err, &reset) {
		t.Errorf("the stream of who may not call any more: %v", err)
	}
	refused("then", "403", "http_request_denied")
	g.say(false)
	opened(t, conn, "orders.shop.mesh:80").Release() // the connection outlives its streams
}
