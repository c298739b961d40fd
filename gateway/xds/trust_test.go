package xds

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

// shortLife is that of a certificate which ends in a test: long enough for a handshake and a
// few answers on a busy machine. Tests that wait for its end run beside each other.
const shortLife = 6 * time.Second

// isSentAway waits until the server ends the stream.
func (c *client) isSentAway() {
	c.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(patience):
		c.t.Fatal("the stream goes on")
	}
}

func TestAStreamEndsWithItsCertificate(t *testing.T) {
	t.Parallel()
	m := identitytest.New(t, "mesh.example")
	g := start(t, m, "", routeTo("orders", 1))
	stays := g.dial("web")
	stays.subscribe("orders")
	stays.expect([]string{"orders"}, nil)
	short, err := m.Cluster("east").Issue(identity.Request{ID: identity.ID{Namespace: "shop", ServiceAccount: "cart"}, TTL: shortLife})
	if err != nil {
		t.Fatal(err)
	}
	id, err := short.Source()
	if err != nil {
		t.Fatal(err)
	}
	c := g.dialAs(id)
	c.subscribe("orders")
	c.expect([]string{"orders"}, nil)
	c.isSentAway()
	if time.Now().Before(short.NotAfter()) {
		t.Error("sent away before the certificate has expired")
	}
	stays.quiet()
	for began := time.Now(); g.port.Len() != 1; time.Sleep(time.Millisecond) { // until the server has read the end
		if time.Since(began) > patience {
			t.Fatalf("%d connections are counted, one is there", g.port.Len())
		}
	}
}

func TestAStreamOutlivesItsCertificateWhenANewerOneWasShown(t *testing.T) {
	t.Parallel()
	m := identitytest.New(t, "mesh.example")
	g := start(t, m, "", routeTo("orders", 1))
	issue := func(ttl time.Duration) *identity.Credential {
		c, err := m.Cluster("east").Issue(identity.Request{ID: identity.ID{Namespace: "shop", ServiceAccount: "web"}, TTL: ttl})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	short := issue(shortLife)
	id, err := short.Source()
	if err != nil {
		t.Fatal(err)
	}
	c := g.dialAs(id)
	c.subscribe("orders")
	c.expect([]string{"orders"}, nil)
	if err := id.Replace(issue(time.Hour).Material()); err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", g.addr, id.ClientTLS("", identity.AnyGateway(), "h2"))
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()

	cart, err := m.Cluster("east").Issue(identity.Request{ID: identity.ID{Namespace: "shop", ServiceAccount: "cart"}, TTL: time.Until(short.NotAfter()) + time.Second})
	if err != nil {
		t.Fatal(err)
	}
	other, err := cart.Source()
	if err != nil {
		t.Fatal(err)
	}
	later := g.dialAs(other)
	later.subscribe("orders")
	later.isSentAway() // so that certificates were judged after the short one had ended
	c.quiet()
	c.subscribe("cart")
	c.next()
}

func TestAStreamEndsWhenItsRootIsTrustedNoMore(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	dir := m.GatewayDir("east", "east-1")
	id, err := identity.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Identity: id, Cluster: "east", Listener: lis, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { _ = s.Run(ctx) })
	run.Go(func() { _ = id.Run(ctx) })
	defer run.Wait()
	defer cancel()
	g := &gateway{Server: s, t: t, addr: lis.Addr().String(), mesh: m}
	g.publish(routeTo("orders", 1))
	c := g.dial("web")
	c.subscribe("orders")
	c.expect([]string{"orders"}, nil)

	other, err := identitytest.New(t, "mesh.example").Cluster("east").Issue(identity.Request{ID: identity.ID{Gateway: "east-1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Save(dir, true); err != nil {
		t.Fatal(err)
	}
	c.isSentAway()
}

func TestAWorkloadCannotHaveTheGatewayRememberWithoutBound(t *testing.T) {
	g := start(t, identitytest.New(t, "mesh.example"), "", routeTo("orders", 1))
	names := make([]string, maxNames)
	for i := range names {
		names[i] = fmt.Sprintf("n%d", i)
	}
	var streams []*client
	for range maxNamesPerCaller / maxNames {
		c := g.dial("hog")
		c.subscribe(names...)
		c.next()
		streams = append(streams, c)
	}
	one := g.dial("hog")
	one.subscribe("orders")
	one.isSentAway()
	other := g.dial("web")
	other.subscribe("orders")
	other.expect([]string{"orders"}, nil)
	for _, c := range streams {
		c.close()
	}
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		g.streams.mu.Lock()
		left := len(g.streams.names)
		g.streams.mu.Unlock()
		if left == 1 { // other's
			break
		}
		if time.Since(began) > patience {
			t.Fatalf("%d callers are still counted", left)
		}
	}
	again := g.dial("hog")
	again.subscribe("orders")
	again.expect([]string{"orders"}, nil)
}
