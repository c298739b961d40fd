package forward_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/forward"
	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// hearing is a path whose client understands goodbyes.
type hearing struct {
	*net.TCPConn
	records connect.Records
	heard   atomic.Bool
}

func (c *hearing) Read(b []byte) (int, error) {
	for {
		n, err := c.TCPConn.Read(b)
		kept, goodbye := c.records.Strip(b[:n])
		if goodbye {
			c.heard.Store(true)
		}
		if kept > 0 || err != nil {
			return kept, err
		}
	}
}

// hear reads until a goodbye comes; payload is not expected.
func (c *hearing) hear(t *testing.T) {
	t.Helper()
	for b := make([]byte, 64); !c.heard.Load(); {
		n, err := c.TCPConn.Read(b)
		if err != nil {
			t.Fatalf("no goodbye: %v", err)
		}
		if kept, goodbye := c.records.Strip(b[:n]); kept > 0 {
			t.Fatalf("%d bytes of payload came, and no goodbye", kept)
		} else if goodbye {
			c.heard.Store(true)
		}
	}
}

// goodbyeWorld is two gateways with an echoing service in the far cluster, and how to
// open a path to it.
func goodbyeWorld(t *testing.T, endpoint func(instance, address string) forward.Candidate, extra ...string) (*pair, func(t *testing.T) (*hearing, *tls.Conn)) {
	t.Helper()
	m := identitytest.New(t, "mesh.example")
	server, client := m.Workload("west", "shop", "orders"), m.Workload("east", "shop", "web")
	answers := identity.OneOf([]string{server.ID().String()})
	handle := func(c *net.TCPConn) {
		s := tls.Server(c, server.ServerTLS(identitytest.AnyWorkload()))
		_, _ = io.Copy(s, s)
		_ = s.CloseWrite()
	}
	if c := endpoint("", ""); c.Endpoint.Identity == "" {
		handle, answers = echo, identity.ExactGateway(west1)
	}
	p := newPair(t, m, always(endpoint("orders-1", serve(t, handle))), forward.Config{}, forward.Config{})
	return p, func(t *testing.T) (*hearing, *tls.Conn) {
		t.Helper()
		raw := dial(t, p.addr)
		_, _ = io.WriteString(raw, connectHead(extra...))
		reply(t, raw)
		h := &hearing{TCPConn: raw}
		c := tls.Client(h, client.ClientTLS(host, answers))
		say(t, c, "before")
		return h, c
	}
}

// say says something and wants it echoed.
func say(t *testing.T, c net.Conn, what string) {
	t.Helper()
	if _, err := io.WriteString(c, what); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(what))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != what {
		t.Fatalf("%q, %v; want %q", got, err, what)
	}
}

const asks = "Isthmus-Goodbye: 1\r\n"

func TestADrainSaysGoodbyeOnEveryPathAndEndsWhenTheClientsClose(t *testing.T) {
	for name, endpoint := range map[string]func(string, string) forward.Candidate{"an endpoint with TLS": at, "a plain endpoint": plainAt} {
		for _, who := range []string{"near", "far"} {
			t.Run(who+" to "+name, func(t *testing.T) {
				p, open := goodbyeWorld(t, endpoint, asks)
				h, c := open(t)
				g := map[string]*forward.Forward{"near": p.near, "far": p.far}[who]
				drained := make(chan error, 1)
				go func() { drained <- g.Shutdown(context.Background()) }()
				h.hear(t)
				say(t, c, "a request that crossed the goodbye")
				_ = c.Close()
				if err := <-drained; err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestAClientThatDidNotAskHearsNoGoodbye(t *testing.T) {
	p, open := goodbyeWorld(t, at)
	h, c := open(t)
	ctx, cancel := context.WithCancel(context.Background())
	drained := make(chan error, 1)
	go func() { drained <- p.far.Shutdown(ctx) }()
	for range 20 {
		say(t, c, "still here")
	}
	if h.heard.Load() {
		t.Error("a goodbye came")
	}
	cancel()
	<-drained
}

func TestPathsToAnEndpointThatGoesAwayAreToldAndOthersAreNot(t *testing.T) {
	p, open := goodbyeWorld(t, at, asks)
	stays, c := open(t)
	p.far.Retire(func(_ mesh.Destination, e *mesh.Endpoint) bool { return e.Instance == "orders-1" })
	say(t, c, "still here")
	if stays.heard.Load() {
		t.Error("a goodbye came from an endpoint that stays")
	}
	p.far.Retire(func(mesh.Destination, *mesh.Endpoint) bool { return false })
	stays.hear(t)
	say(t, c, "what crosses it")
}

func TestAGoodbyeWaitsForTheEndOfARecord(t *testing.T) {
	p, open := goodbyeWorld(t, at, asks)
	h, c := open(t)
	const size = 8 << 20
	go func() {
		for b, sent := make([]byte, 1<<20), 0; sent < size; sent += len(b) {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}()
	if _, err := io.CopyN(io.Discard, c, size/2); err != nil {
		t.Fatal(err)
	}
	drained := make(chan error, 2)
	for _, g := range []*forward.Forward{p.near, p.far} {
		go func() { drained <- g.Shutdown(context.Background()) }()
	}
	if _, err := io.CopyN(io.Discard, c, size/2); err != nil { // TLS would not forgive a byte too many
		t.Fatal(err)
	}
	if !h.heard.Load() {
		_ = h.SetReadDeadline(time.Now().Add(testLimit))
		h.hear(t)
	}
	_ = c.Close()
	for range 2 {
		if err := <-drained; err != nil {
			t.Error(err)
		}
	}
}
