package gatewaylink

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

func TestARenewedCertificateIsShownToTheGatewaysThatAreConnected(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	gateway := m.Gateway("east", "east-1")
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	issue := func(ttl time.Duration) *identity.Credential {
		c, err := m.Cluster("east").Issue(identity.Request{ID: identity.ID{Namespace: "shop", ServiceAccount: "web"}, TTL: ttl})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	connected, idle := listen(), listen()
	id, err := issue(time.Minute).Source()
	if err != nil {
		t.Fatal(err)
	}
	links, err := New(id, []string{connected.Addr().String(), idle.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	c, err := links[0].acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer links[0].release(c, nil)

	ctx, cancel := context.WithCancel(t.Context())
	var showing sync.WaitGroup
	showing.Go(func() { ShowRenewals(ctx, id, links) })
	defer showing.Wait()
	defer cancel()

	renewed := issue(time.Hour)
	for round := range 2 {
		if err := id.Replace(renewed.Material()); err != nil {
			t.Fatal(err)
		}
		if round == 0 { // the gateway does not answer: it is tried again
			c, err := connected.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
		}
		below, err := connected.Accept()
		if err != nil {
			t.Fatal(err)
		}
		over := identity.Server(below, gateway.ServerTLS(identitytest.AnyWorkload(), "h2"))
		if err := over.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := over.ConnectionState().PeerCertificates[0].NotAfter; !got.Equal(renewed.NotAfter()) {
			t.Errorf("shown was a certificate until %s, want %s", got, renewed.NotAfter())
		}
		_ = over.Close()
		renewed = issue(2 * time.Hour)
	}
	cancel()
	showing.Wait()
	own, err := net.Dial("tcp", idle.Addr().String()) // the first that comes, unless somebody came before
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	first, err := idle.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if first.RemoteAddr().String() != own.LocalAddr().String() {
		t.Error("a gateway that there is no connection to was asked")
	}
}
