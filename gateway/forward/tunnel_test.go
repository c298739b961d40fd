package forward_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/forward"
	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/internal/socket/sockettest"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

var _ relay.Conn = (*tunnel.Stream)(nil)

// ways are the ways to ask a mesh port for a path. Each returns the connection
// to speak TLS on.
var ways = map[string]func(t *testing.T, addr string) relay.Conn{
	"CONNECT with the payload behind": func(t *testing.T, addr string) relay.Conn {
		c := dial(t, addr)
		_, _ = io.WriteString(c, connectHead())
		return &afterReply{TCPConn: c, t: t}
	},
	"CONNECT waiting for the reply": func(t *testing.T, addr string) relay.Conn {
		c := dial(t, addr)
		_, _ = io.WriteString(c, connectHead())
		resp := reply(t, c)
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Isthmus-Cluster") != "west" || resp.Header.Get("Isthmus-Instance") != "orders-1" {
			t.Fatalf("reply %d %v", resp.StatusCode, resp.Header)
		}
		return c
	},
	"SNI": func(t *testing.T, addr string) relay.Conn { return dial(t, addr) },
}

func TestAServiceInAnotherClusterIsReachedEndToEnd(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	server, client := m.Workload("west", "shop", "orders"), m.Workload("east", "shop", "web")
	addr := serve(t, func(c *net.TCPConn) {
		s := tls.Server(c, server.ServerTLS(identitytest.AnyWorkload()))
		_, _ = io.Copy(s, s)
		_ = s.CloseWrite()
	})
	p := newPair(t, m, always(at("orders-1", addr)), forward.Config{}, forward.Config{})
	for name, ask := range ways {
		t.Run(name, func(t *testing.T) {
			c := tls.Client(ask(t, p.addr), client.ClientTLS(host, identity.OneOf([]string{server.ID().String()})))
			if _, err := io.WriteString(c, "through both gateways"); err != nil {
				t.Fatal(err)
			}
			_ = c.CloseWrite()
			if got, err := io.ReadAll(c); err != nil || string(got) != "through both gateways" {
				t.Fatalf("%q, %v", got, err)
			}
		})
	}
}

func TestTheGatewayEndsTheTLSOfAPlainEndpoint(t *testing.T) {
	addr := serve(t, echo)
	m := identitytest.New(t, "mesh.example")
	p := newPair(t, m, always(plainAt("orders-1", addr)), forward.Config{}, forward.Config{})
	client := m.Workload("east", "shop", "web")
	west := identity.ExactGateway(west1)
	for name, ask := range ways {
		t.Run(name, func(t *testing.T) {
			c := tls.Client(ask(t, p.addr), client.ClientTLS(host, west))
			if _, err := io.WriteString(c, "in the clear behind the gateway"); err != nil {
				t.Fatal(err)
			}
			_ = c.CloseWrite()
			if got, err := io.ReadAll(c); err != nil || string(got) != "in the clear behind the gateway" {
				t.Fatalf("%q, %v", got, err)
			}
		})
	}
	t.Run("for workloads only", func(t *testing.T) {
		c := tls.Client(ways["SNI"](t, p.addr), m.Gateway("east", "east-9").ClientTLS(host, west))
		// In TLS 1.3 the refusal comes after our side of the handshake is done:
		// the write or the read sees it.
		if _, err := io.WriteString(c, "let me in"); err != nil {
			return
		}
		if got, err := io.ReadAll(c); err == nil || len(got) > 0 {
			t.Fatalf("a client that is no workload is served %q", got)
		}
	})
}

func TestEachDirectionOfAPathEndsOnItsOwn(t *testing.T) {
	payload := hello(t)
	addr := serve(t, func(c *net.TCPConn) {
		first := make([]byte, len(payload))
		if _, err := io.ReadFull(c, first); err != nil {
			return
		}
		// The server ends first and still reads to the end.
		_, _ = io.WriteString(c, "bye")
		_ = c.CloseWrite()
		rest, _ := io.ReadAll(c)
		if string(rest) != "after the server's end" {
			t.Errorf("the server read %q", rest)
		}
	})
	p := newPair(t, identitytest.New(t, "mesh.example"), always(at("orders-1", addr)), forward.Config{}, forward.Config{})
	c := dial(t, p.addr)
	_, _ = c.Write(payload)
	if got, err := io.ReadAll(c); err != nil || string(got) != "bye" {
		t.Fatalf("%q, %v", got, err)
	}
	_, _ = io.WriteString(c, "after the server's end")
	_ = c.CloseWrite()

	// And the client first.
	echoes := serve(t, echo)
	p = newPair(t, identitytest.New(t, "mesh.example"), always(at("orders-1", echoes)), forward.Config{}, forward.Config{})
	c = dial(t, p.addr)
	_, _ = c.Write(payload)
	_ = c.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, payload) {
		t.Fatalf("%d bytes, %v; want the %d that were sent and the end", len(got), err, len(payload))
	}
}

func TestTwoHundredMegabytesArriveAsTheyWereSent(t *testing.T) {
	const size = 200 << 20
	payload := hello(t)
	sums := make(chan [sha256.Size]byte, 1)
	addr := serve(t, func(c *net.TCPConn) {
		h := sha256.New()
		_, _ = io.CopyBuffer(onlyWriter{h}, c, make([]byte, 256<<10))
		sums <- [sha256.Size]byte(h.Sum(nil))
	})
	p := newPair(t, identitytest.New(t, "mesh.example"), always(at("orders-1", addr)), forward.Config{}, forward.Config{})
	c := dial(t, p.addr)
	h := sha256.New()
	w := io.MultiWriter(c, h)
	_, _ = w.Write(payload)
	block := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(block)
	for sent := 0; sent < size; sent += len(block) {
		block[0]++
		if _, err := w.Write(block); err != nil {
			t.Fatalf("after %d bytes: %v", sent, err)
		}
	}
	_ = c.CloseWrite()
	if got := <-sums; got != [sha256.Size]byte(h.Sum(nil)) {
		t.Fatal("other bytes arrived than were sent")
	}
}

func TestAnAbortAtEitherEndIsAResetAtTheOther(t *testing.T) {
	payload := hello(t)
	t.Run("by the server", func(t *testing.T) {
		addr := serve(t, func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, len(payload)))
			_, _ = io.WriteString(c, "half")
			_, _ = c.Read(make([]byte, 1)) // until the client has that half
			_ = c.SetLinger(0)
		})
		p := newPair(t, identitytest.New(t, "mesh.example"), always(at("orders-1", addr)), forward.Config{}, forward.Config{})
		c := dial(t, p.addr)
		_, _ = c.Write(payload)
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte("x"))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("read gives %v, want a reset", err)
		}
	})
	t.Run("by the client", func(t *testing.T) {
		got := make(chan error, 1)
		addr := serve(t, func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, len(payload)))
			_, _ = io.WriteString(c, "go on")
			_, err := c.Read(make([]byte, 1))
			got <- err
		})
		p := newPair(t, identitytest.New(t, "mesh.example"), always(at("orders-1", addr)), forward.Config{}, forward.Config{})
		c := dial(t, p.addr)
		_, _ = c.Write(payload)
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		_ = c.SetLinger(0)
		_ = c.Close()
		if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("the server reads %v, want a reset", err)
		}
	})
}

func TestTheFarGatewaysRefusalIsPassedOn(t *testing.T) {
	unused := serve(t, echo)
	closed := sockettest.Reserve(t)
	for name, c := range map[string]struct {
		inbound choice
		status  int
		reasons []string
	}{
		"not exported": {func(*forward.Request) ([]forward.Candidate, *connect.Refusal) {
			return nil, connect.Refuse(http.StatusForbidden, connect.RequestDenied, "not exported")
		}, http.StatusForbidden, []string{`isthmus-west-1; error=http_request_denied; details="not exported"`, ", isthmus-east-1; "}},
		"connection refused": {always(at("orders-1", closed)), http.StatusBadGateway, []string{"error=connection_refused", "orders-1: "}},
		"the far side of it all": {func(r *forward.Request) ([]forward.Candidate, *connect.Refusal) {
			if len(r.Exclude) != 2 || r.Exclude[1] != (connect.Instance{Cluster: "west", Name: "orders-1"}) || r.Destination.Service != orders {
				return always(at("orders-1", unused))(r)
			}
			return nil, connect.Refuse(http.StatusServiceUnavailable, connect.DestinationUnavailable, "all excluded")
		}, http.StatusServiceUnavailable, []string{"all excluded"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, identitytest.New(t, "mesh.example"), c.inbound, forward.Config{}, forward.Config{})
			conn := dial(t, p.addr)
			_, _ = io.WriteString(conn, connectHead("Isthmus-Exclude: east, west/orders-1\r\n"))
			_, _ = conn.Write(hello(t))
			resp := reply(t, conn)
			refused(t, resp, c.status, c.reasons...)
			// The payload that came right behind does not turn the refusal into a reset.
			if body, err := io.ReadAll(conn); err != nil || !strings.HasSuffix(string(body), "\n") {
				t.Fatalf("body %q, %v", body, err)
			}
		})
	}
}

func TestATunnelIsNoOpenProxyEither(t *testing.T) {
	reached := make(chan []byte, 1)
	addr := serve(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		reached <- b
	})
	p := newPair(t, identitytest.New(t, "mesh.example"), always(at("orders-1", addr)), forward.Config{}, forward.Config{})
	s, err := p.nearTunnel.Open(t.Context(), west1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, _ = io.WriteString(s, connectHead()+"GET / HTTP/1.1\r\nHost: orders\r\n\r\n")
	refused(t, reply(t, s), http.StatusBadRequest, "does not begin with a TLS ClientHello")

	s, err = p.nearTunnel.Open(t.Context(), west1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, _ = io.WriteString(s, connectHead())
	if resp := reply(t, s); resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d", resp.StatusCode)
	}
	_, _ = io.WriteString(s, "GET / HTTP/1.1\r\nHost: orders\r\n\r\n")
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, tunnel.ErrReset) {
		t.Fatalf("read gives %v, want %v", err, tunnel.ErrReset)
	}
	if b := <-reached; len(b) > 0 {
		t.Fatalf("the endpoint was reached by %q", b)
	}
}

func TestAPathThatComesBackIsALoop(t *testing.T) {
	p := newPair(t, identitytest.New(t, "mesh.example"), nobody, forward.Config{}, forward.Config{})
	c := dial(t, p.addr)
	_, _ = io.WriteString(c, connectHead("Via: 1.1 east.east-1\r\n"))
	refused(t, reply(t, c), http.StatusLoopDetected, connect.ProxyLoop)

	c = dial(t, p.addr)
	_, _ = io.WriteString(c, connectHead("Via: 1.1 west.west-1\r\n"))
	refused(t, reply(t, c), http.StatusLoopDetected, "isthmus-west-1; error=proxy_loop_detected")

	c = dial(t, p.addr)
	_, _ = io.WriteString(c, connectHead("Via: 1.1 a.a-1, 1.1 b.b-1, 1.1 c.c-1\r\n"))
	refused(t, reply(t, c), http.StatusLoopDetected, "at most")
}

func TestAnEndpointThatIsTheGatewayItselfIsALoop(t *testing.T) {
	var addr string // of the mesh port; set before anybody connects
	_, addr = start(t, forward.Config{Outbound: func(r *forward.Request) ([]forward.Candidate, *connect.Refusal) {
		return []forward.Candidate{at("orders-1", addr)}, nil
	}})
	c := dial(t, addr)
	_, _ = c.Write(hello(t))
	got, err := io.ReadAll(c)
	if err != nil || len(got) != 7 || got[0] != 21 {
		t.Fatalf("%x, %v; want one TLS alert", got, err)
	}
}

func TestAServerNameAsksForAPort(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	asked := make(chan mesh.Destination, 1)
	_, addr := start(t, forward.Config{
		Identity: m.Gateway("east", "east-1"),
		Outbound: func(r *forward.Request) ([]forward.Candidate, *connect.Refusal) {
			asked <- r.Destination
			return []forward.Candidate{plainAt("legacy-1", serve(t, echo))}, nil
		},
	})
	for name, want := range map[string]uint16{"legacy.shop.mesh": 0, "_81.legacy.shop.mesh": 81, "_443.legacy.shop.west.mesh": 443} {
		c := tls.Client(dial(t, addr), m.Workload("east", "shop", "web").ClientTLS(name, identity.ExactGateway(east1)))
		if _, err := io.WriteString(c, "hello"); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
		if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
			t.Fatalf("%s: %q, %v", name, got, err)
		}
		if d := <-asked; d.Port != want {
			t.Errorf("%s asks for %s, want port %d", name, d, want)
		}
	}
}
