package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const ordersWest = "spiffe://mesh.example/cluster/west/ns/shop/sa/orders"

// serve accepts connections on loopback until the test ends and hands each to
// handle, which need not close it.
func serve(t *testing.T, handle func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() { handle(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// deadAddr returns an address where nobody listens.
func deadAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// echo ends TLS as src for any workload and says everything twice.
func echo(src *identity.Source) func(net.Conn) {
	return func(c net.Conn) {
		over := tls.Server(c, src.ServerTLS(identitytest.AnyWorkload(), "http/1.1"))
		defer over.Close()
		_, _ = io.Copy(over, over)
	}
}

// fakeGateway reads the CONNECT head, hands it to decide, writes the reply that
// decide gives, and goes on with next when that is not nil.
type fakeGateway struct {
	decide func(head string) (reply string, next func(net.Conn))
	// behind is called with what came in the same read as the end of the head.
	behind func(payload []byte)
	// join sends the reply in one segment with the first payload that next
	// writes; slow sends it byte by byte.
	join, slow bool
}

func (g *fakeGateway) handle(c net.Conn) {
	defer c.Close()
	var buf []byte
	chunk := make([]byte, 32<<10)
	for {
		n, err := c.Read(chunk)
		buf = append(buf, chunk[:n]...)
		head, rest, ok := bytes.Cut(buf, []byte("\r\n\r\n"))
		if !ok {
			if err != nil {
				return
			}
			continue
		}
		if g.behind != nil {
			g.behind(rest)
		}
		reply, next := g.decide(string(head))
		switch {
		case g.slow:
			for i := range len(reply) {
				if _, err := io.WriteString(c, reply[i:i+1]); err != nil {
					return
				}
			}
			reply = ""
		case !g.join || next == nil:
			if _, err := io.WriteString(c, reply); err != nil {
				return
			}
			reply = ""
		}
		if next != nil {
			next(&spliced{Conn: c, read: rest, write: []byte(reply)})
			return
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.CloseWrite() // and not Close, whose RST would overtake the reply
		}
		_, _ = io.Copy(io.Discard, c)
		return
	}
}

// spliced is a Conn with bytes put in front of the first read and write.
type spliced struct {
	net.Conn
	read, write []byte
}

func (s *spliced) Read(b []byte) (int, error) {
	if len(s.read) > 0 {
		n := copy(b, s.read)
		s.read = s.read[n:]
		return n, nil
	}
	return s.Conn.Read(b)
}

func (s *spliced) Write(b []byte) (int, error) {
	if len(s.write) > 0 {
		before := len(s.write)
		n, err := s.Conn.Write(append(s.write, b...))
		s.write = nil
		return max(0, n-before), err
	}
	return s.Conn.Write(b)
}

// world is an identity for the caller and for who serves in another cluster.
type world struct {
	mesh   *identitytest.Mesh
	caller *identity.Source
	orders *identity.Source
}

func newWorld(t testing.TB) *world {
	m := identitytest.New(t, "mesh.example")
	return &world{m, m.Workload("east", "shop", "caller"), m.Workload("west", "shop", "orders")}
}

// set returns a set with one route, closed when the test ends.
func (w *world) set(t *testing.T, r *mesh.Route) (*Set, *Service) {
	t.Helper()
	r.Destination = orders
	if r.Protocol == "" {
		r.Protocol = mesh.HTTP
	}
	if r.Identities == nil {
		r.Identities = []string{ordersWest}
	}
	s := New(Config{Identity: w.caller, Cluster: "east"})
	t.Cleanup(s.Close)
	s.Update([]*mesh.Route{r})
	service := s.Service(orders)
	if service == nil {
		t.Fatal("no service for the route")
	}
	return s, service
}

func at(addr, id string) []mesh.Endpoint {
	return []mesh.Endpoint{{Instance: "orders-1", Address: addr, Ready: true, Weight: 1, Identity: id}}
}

// get picks and gets for a new request.
func get(t *testing.T, s *Service) (*Host, *Conn, error) {
	t.Helper()
	var try Attempts
	h, ok := s.pickHost(s.shared.now(), &try)
	if !ok {
		t.Fatal("nobody to pick")
	}
	conn, err := h.get(t.Context(), &try)
	return h, conn, err
}

// mustGet is get that fails the test.
func mustGet(t *testing.T, s *Service) (*Host, *Conn) {
	t.Helper()
	h, conn, err := get(t, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return h, conn
}

// exchange writes and expects the echo.
func exchange(t *testing.T, conn net.Conn, what string) {
	t.Helper()
	if _, err := io.WriteString(conn, what); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(what))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	if string(got) != what {
		t.Fatalf("echo of %d bytes differs", len(what))
	}
}

func connectError(t *testing.T, err error) *ConnectError {
	t.Helper()
	var ce *ConnectError
	if !errors.As(err, &ce) {
		t.Fatalf("error %v is not a ConnectError", err)
	}
	return ce
}

// pipes dials in memory: for virtual time.
func pipes(accept func(addr string, c net.Conn)) func(context.Context, string, string) (net.Conn, error) {
	return func(_ context.Context, _, addr string) (net.Conn, error) {
		near, far := net.Pipe()
		go accept(addr, far) // ends when the near end is closed
		return near, nil
	}
}

func contains(t *testing.T, got error, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if got == nil || !strings.Contains(got.Error(), p) {
			t.Errorf("error %q does not say %q", got, p)
		}
	}
}
