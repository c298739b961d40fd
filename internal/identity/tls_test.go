package identity_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// handshake runs both ends over an in-memory connection and returns what each
// says, after a byte has gone each way: in TLS 1.3 a client learns only then
// that it was refused.
func handshake(t *testing.T, client, server *tls.Config) (cs, ss tls.ConnectionState, clientErr, serverErr error) {
	t.Helper()
	a, b := bufferedPipe(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c := tls.Server(b, server)
		serverErr = exchange(c)
		ss = c.ConnectionState()
		b.Close()
	}()
	c := tls.Client(a, client)
	clientErr = exchange(c)
	cs = c.ConnectionState()
	a.Close()
	<-done
	return
}

func exchange(c *tls.Conn) error {
	c.SetDeadline(time.Now().Add(time.Minute))
	if err := c.Handshake(); err != nil {
		return err
	}
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// bufferedPipe is a loopback TCP connection: unlike net.Pipe it holds the alert
// that refuses a handshake while its other end is still writing.
func bufferedPipe(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestBothEndsLearnWhoTheOtherIs(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	orders, gw := m.Workload("east", "shop", "orders"), m.Gateway("west", "west-1")
	cs, ss, cerr, serr := handshake(t,
		orders.ClientTLS("orders.shop.mesh", identity.AnyGateway(), "http/1.1"),
		gw.ServerTLS(identitytest.AnyWorkload(), "h2", "http/1.1"))
	if err := errors.Join(cerr, serr); err != nil {
		t.Fatal(err)
	}
	if id, err := identity.PeerID(cs); err != nil || id != gw.ID() {
		t.Errorf("client: peer %v, %v; want %v", id, err, gw.ID())
	}
	if id, err := identity.PeerID(ss); err != nil || id != orders.ID() {
		t.Errorf("server: peer %v, %v; want %v", id, err, orders.ID())
	}
	if cs.NegotiatedProtocol != "http/1.1" || ss.ServerName != "orders.shop.mesh" || cs.Version != tls.VersionTLS13 {
		t.Errorf("ALPN %q, SNI %q, version %x", cs.NegotiatedProtocol, ss.ServerName, cs.Version)
	}
}

func TestAClientWithoutALPNIsServed(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	s := m.Workload("east", "shop", "orders")
	_, ss, cerr, serr := handshake(t, s.ClientTLS("x", identity.AnyMember()), s.ServerTLS(identity.AnyMember(), "http/1.1"))
	if err := errors.Join(cerr, serr); err != nil || ss.NegotiatedProtocol != "" {
		t.Fatalf("protocol %q, %v", ss.NegotiatedProtocol, err)
	}
}

func TestEveryRoleIsCheckedAtBothEnds(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	gw, wl := m.Gateway("east", "east-1"), m.Workload("west", "shop", "orders")
	ca := caOf(t, m.Cluster("west"), "ca-1")
	for _, tc := range []struct {
		name   string
		policy identity.PeerPolicy
		peer   *identity.Source
		want   string // empty: accepted
	}{
		{"any member", identity.AnyMember(), wl, ""},
		{"any member, CA", identity.AnyMember(), ca, "expected a gateway or a workload, but the peer is spiffe://mesh.example/cluster/west/ca/ca-1"},
		{"any workload, CA", identitytest.AnyWorkload(), ca, "expected a workload, but"},
		{"workload of, CA", identitytest.WorkloadOf("west"), ca, "expected a workload of cluster west, but"},
		{"workload or CA of", identity.WorkloadOrCAOf("west"), wl, ""},
		{"workload or CA of, CA", identity.WorkloadOrCAOf("west"), ca, ""},
		{"workload or CA of another", identity.WorkloadOrCAOf("east"), ca, "expected a workload or CA of cluster east"},
		{"workload or CA of, gateway", identity.WorkloadOrCAOf("east"), gw, "expected a workload or CA of cluster east"},
		{"member of", identity.MemberOf("mesh.example", "west"), wl, ""},
		{"member of, gateway", identity.MemberOf("mesh.example", "east"), gw, ""},
		{"member of another", identity.MemberOf("mesh.example", "east"), wl, "expected a gateway or workload of cluster east of mesh.example"},
		{"member of another trust domain", identity.MemberOf("other.example", "west"), wl, "expected a gateway or workload of cluster west of other.example"},
		{"member of, CA", identity.MemberOf("mesh.example", "west"), ca, "expected a gateway or workload of cluster west"},
		{"CA of", identity.CAOf("mesh.example", "west"), ca, ""},
		{"CA of another", identity.CAOf("mesh.example", "east"), ca, "expected a CA of cluster east of mesh.example"},
		{"CA of another trust domain", identity.CAOf("other.example", "west"), ca, "expected a CA of cluster west of other.example"},
		{"CA of, workload", identity.CAOf("mesh.example", "west"), wl, "expected a CA of cluster west"},
		{"CA of, gateway", identity.CAOf("mesh.example", "east"), gw, "expected a CA of cluster east"},
		{"any gateway", identity.AnyGateway(), gw, ""},
		{"any gateway, workload", identity.AnyGateway(), wl, "expected a gateway, but the peer is spiffe://mesh.example/cluster/west/ns/shop/sa/orders"},
		{"any workload", identitytest.AnyWorkload(), wl, ""},
		{"any workload, gateway", identitytest.AnyWorkload(), gw, "expected a workload, but the peer is spiffe://mesh.example/cluster/east/gateway/east-1"},
		{"workload of", identitytest.WorkloadOf("west"), wl, ""},
		{"workload of another", identitytest.WorkloadOf("east"), wl, "expected a workload of cluster east"},
		{"workload of, gateway", identitytest.WorkloadOf("east"), gw, "expected a workload of cluster east"},
		{"gateway of", identity.GatewayOf("east"), gw, ""},
		{"gateway of another", identity.GatewayOf("west"), gw, "expected a gateway of cluster west"},
		{"gateway of, workload", identity.GatewayOf("west"), wl, "expected a gateway of cluster west"},
		{"exact", identity.ExactGateway(mesh.GatewayID{Cluster: "east", Name: "east-1"}), gw, ""},
		{"exact, another", identity.ExactGateway(mesh.GatewayID{Cluster: "east", Name: "east-2"}), gw, "expected gateway east/east-2"},
		{"exact zero, workload", identity.ExactGateway(mesh.GatewayID{Cluster: "west"}), wl, "expected gateway west/"},
		{"one of", identity.OneOf([]string{"spiffe://a", wl.ID().String()}), wl, ""},
		{"one of others", identity.OneOf([]string{"spiffe://a", "spiffe://b"}), wl, "expected one of spiffe://a, spiffe://b, but"},
		{"one of many", identity.OneOf([]string{"1", "2", "3", "4", "5"}), wl, "expected one of 1, 2, 3 and 2 more, but"},
		{"one of none", identity.OneOf(nil), wl, "expected nobody"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			self := m.Gateway("north", "north-1")
			_, _, _, atServer := handshake(t, tc.peer.ClientTLS("", identity.AnyMember()), self.ServerTLS(tc.policy))
			_, _, _, atOpen := handshake(t, tc.peer.ClientTLS("", identity.AnyMember()), self.OpenServerTLS(tc.policy))
			wantError(t, "open server", atOpen, tc.want)
			wantError(t, "server", atServer, tc.want)
			_, _, atClient, _ := handshake(t, self.ClientTLS("", tc.policy), tc.peer.ServerTLS(identity.AnyMember()))
			wantError(t, "client", atClient, tc.want)
		})
	}
}

func TestAPeerOfAnotherTrustDomainIsRefused(t *testing.T) {
	ours := identitytest.New(t, "mesh.example").Gateway("east", "east-1")
	theirs := identitytest.New(t, "other.example").Gateway("west", "west-1")
	_, _, err, _ := handshake(t, ours.ClientTLS("", identity.AnyMember()), theirs.ServerTLS(identity.AnyMember()))
	wantError(t, "client", err, "spiffe://other.example/cluster/west/gateway/west-1 is of trust domain other.example, expected mesh.example")
}

func TestAPeerOfAnotherRootWithOurNameIsRefused(t *testing.T) {
	ours := identitytest.New(t, "mesh.example").Gateway("east", "east-1")
	theirs := identitytest.New(t, "mesh.example").Gateway("east", "east-1")
	_, _, err, _ := handshake(t, ours.ClientTLS("", identity.AnyMember()), theirs.ServerTLS(identity.AnyMember()))
	wantError(t, "client", err, "not signed by a root of trust domain mesh.example that this process knows")
}

func TestAClientWithoutACertificateIsRefused(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	_, _, cerr, serr := handshake(t, &tls.Config{InsecureSkipVerify: true}, m.Gateway("east", "east-1").ServerTLS(identity.AnyMember()))
	if cerr == nil || serr == nil {
		t.Fatalf("accepted: client %v, server %v", cerr, serr)
	}
}

func TestAnOpenServerTakesWhoShowsNoCertificateAsNobody(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	config := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // a stranger, who knows no root
	_, ss, atClient, atServer := handshake(t, config, m.Gateway("east", "east-1").OpenServerTLS(identitytest.AnyWorkload()))
	wantError(t, "client", atClient, "")
	wantError(t, "server", atServer, "")
	if len(ss.PeerCertificates) > 0 {
		t.Errorf("nobody has certificates: %v", ss.PeerCertificates)
	}
}

// caOf returns the identity of a CA process.
func caOf(t *testing.T, a *identity.Authority, name string) *identity.Source {
	t.Helper()
	c, err := a.IssueCA(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Source()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTLS12IsRefused(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	s := m.Gateway("east", "east-1")
	old := s.ClientTLS("", identity.AnyMember())
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	_, _, _, err := handshake(t, old, s.ServerTLS(identity.AnyMember()))
	wantError(t, "server", err, "unsupported versions")
}

func TestNoSessionIsResumed(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	s := m.Gateway("east", "east-1")
	client, server := s.ClientTLS("x", identity.AnyMember()), s.ServerTLS(identity.AnyMember())
	client.ClientSessionCache, client.SessionTicketsDisabled = tls.NewLRUClientSessionCache(4), false
	for range 2 {
		_, ss, cerr, serr := handshake(t, client, server)
		if err := errors.Join(cerr, serr); err != nil {
			t.Fatal(err)
		}
		if ss.DidResume {
			t.Error("resumed: the peer's certificate was not seen again")
		}
	}
}

func TestAPolicyIsNeverLeftOut(t *testing.T) {
	s := identitytest.New(t, "mesh.example").Gateway("east", "east-1")
	for name, f := range map[string]func(){
		"server": func() { s.ServerTLS(nil) },
		"client": func() { s.ClientTLS("x", nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: a configuration without a role was made", name)
				}
			}()
			f()
		}()
	}
}

// The clock of a bubble starts at 2000-01-01.
func TestAMeshLivesInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := identitytest.New(t, "mesh.example")
		a, b := m.Gateway("east", "east-1"), m.Gateway("west", "west-1")
		if got := a.NotAfter(); !got.Equal(time.Now().Add(identitytest.TTL)) {
			t.Errorf("not after %s", got)
		}
		meet := func() error {
			x, y := net.Pipe()
			defer x.Close()
			defer y.Close()
			go tls.Server(y, b.ServerTLS(identity.AnyGateway())).Handshake()
			return tls.Client(x, a.ClientTLS("", identity.AnyGateway())).Handshake()
		}
		if err := meet(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(identitytest.TTL + time.Second)
		wantError(t, "client", meet(), "expired at 2000-12-31T00:00:00Z, it is 2000-12-31T00:00:01Z here")
		synctest.Wait()
	})
}
