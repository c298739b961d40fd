package forward_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/forward"
	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
)

var (
	ordersAt80 = mesh.Destination{Service: orders, Port: 80}
	aPod       = &net.TCPAddr{IP: net.IPv4(10, 42, 0, 7), Port: 41000}
)

// enter has the near gateway call orders for a program without a sidecar.
func enter(t *testing.T, p *pair, m *identitytest.Mesh) (*tls.Conn, *forward.Entered) {
	t.Helper()
	path, err := p.near.Enter(ordersAt80, aPod)
	if err != nil {
		t.Fatal(err)
	}
	conn := identity.Client(path, m.Gateway("east", "east-1").ClientTLS(ordersAt80.ServerName(), identity.ExactGateway(west1)))
	t.Cleanup(func() { _ = conn.Close() })
	return conn, path
}

func TestAProgramWithoutASidecarIsTakenToAPlainEndpointOfAnotherCluster(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	p := newPair(t, m, always(plainAt("orders-1", serve(t, echo))), forward.Config{}, forward.Config{Entrance: true})
	conn, path := enter(t, p, m)
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if string(got) != "hello" || err != nil || path.Refused() != nil {
		t.Errorf("%q, error %v, refusal %v", got, err, path.Refused())
	}
}

func TestAGatewayThatCallsIsRefusedWhereThereIsNoEntranceOrAPolicy(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	var c callers
	c.are(t, []uint16{80}, rules(policy.Allow, "a", policy.Rule{From: []policy.Callers{{Namespace: "front"}}}))
	for name, far := range map[string]forward.Config{"no entrance": {}, "a policy": {Entrance: true, Authorizer: c.of}} {
		p := newPair(t, m, always(plainAt("orders-1", serve(t, echo))), forward.Config{}, far)
		conn, _ := enter(t, p, m)
		_, err := conn.Read(make([]byte, 1))
		if err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: it is served, or told that the end is clean: %v", name, err)
		}
	}
}

func TestWhoEntersIsToldWhyThereIsNoPath(t *testing.T) {
	f := run(t, forward.Config{Outbound: nobody, PathsPerSource: 1})
	path, err := f.Enter(ordersAt80, aPod)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(path); err != nil { // an alert
		t.Fatal(err)
	}
	if r := path.Refused(); r == nil || r.Status != http.StatusNotFound || r.Type != connect.DestinationNotFound {
		t.Errorf("refused by %v", r)
	}
	_ = path.Close()
}

func TestWhoEntersCountsAsASource(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	p := newPair(t, m, always(plainAt("orders-1", serve(t, echo))), forward.Config{PathsPerSource: 1}, forward.Config{Entrance: true})
	first, _ := enter(t, p, m)
	if err := first.Handshake(); err != nil {
		t.Fatal(err)
	}
	second, path := enter(t, p, m)
	if err := second.Handshake(); err == nil {
		t.Error("a source has more paths than it may")
	}
	if r := path.Refused(); r == nil || r.Type != connect.ConnectionLimit {
		t.Errorf("refused by %v", r)
	}
}
