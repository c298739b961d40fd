package beside

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/gateway/discovery/kubernetes"
	"github.com/isthmus-mesh/isthmus/internal/beside"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// world is a gateway that tells sidecars what Kubernetes says.
type world struct {
	t    *testing.T
	mesh *identitytest.Mesh
	pods state.Store[kubernetes.Pods]
	addr string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, mesh: identitytest.New(t, "mesh.example")}
	gateway := w.mesh.Gateway("east", "east-1")
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(gateway.ServerTLS(identity.AnyMember(), "h2"))))
	New(w.pods.Snapshot, nil).Attach(srv)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	serving := make(chan struct{})
	go func() { defer close(serving); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Stop(); <-serving })
	return w
}

// sidecar opens a stream as somebody who says that it is at some addresses.
func (w *world) sidecar(who *identity.Source, at ...string) beside.Beside_FollowClient {
	w.t.Helper()
	conn, err := grpc.NewClient(w.addr, grpc.WithTransportCredentials(credentials.NewTLS(who.ClientTLS("", identity.AnyGateway(), "h2"))))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	stream, err := beside.NewBesideClient(conn).Follow(w.t.Context())
	if err == nil {
		err = stream.Send(&beside.Place{Addresses: at})
	}
	if err != nil && !errors.Is(err, io.EOF) { // the server has ended the stream already: what it receives says why
		w.t.Fatal(err)
	}
	return stream
}

func hear(t *testing.T, stream beside.Beside_FollowClient) string {
	t.Helper()
	m, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, p := range m.GetPorts() {
		all = append(all, fmt.Sprintf("%s %d %s %s", p.GetService(), p.GetPort(), p.GetProtocol(), p.GetTarget()))
	}
	return strings.Join(all, ", ")
}

const ordersID = "spiffe://mesh.example/cluster/east/ns/shop/sa/orders"

func podsAt(ip string, identity string, serves ...kubernetes.ServedPort) kubernetes.Pods {
	return kubernetes.Pods{netip.MustParseAddr(ip): {Namespace: "shop", Name: "orders-1", Account: "orders", Identity: identity, Serves: serves}}
}

func serving(name string, port, target uint16) kubernetes.ServedPort {
	return kubernetes.ServedPort{Service: mesh.ServiceName{Namespace: "shop", Name: name}, Port: port, Target: target, Protocol: mesh.HTTP}
}

func TestASidecarIsToldWhatItsPodServesAndOfEachChange(t *testing.T) {
	w := newWorld(t)
	s := w.sidecar(w.mesh.Workload("east", "shop", "orders"), "10.42.0.7", "fd00::7")
	w.pods.Set(podsAt("10.42.0.7", ordersID, serving("orders", 80, 8080)))
	if got := hear(t, s); got != "shop/orders 80 http 10.42.0.7:8080" {
		t.Errorf("told: %s", got)
	}
	w.pods.Set(podsAt("10.42.0.7", ordersID, serving("admin", 81, 9090), serving("orders", 80, 8080)))
	if got := hear(t, s); got != "shop/admin 81 http 10.42.0.7:9090, shop/orders 80 http 10.42.0.7:8080" {
		t.Errorf("another Service selects it, told: %s", got)
	}
	w.pods.Set(podsAt("10.42.0.7", ordersID, serving("admin", 81, 9090), serving("orders", 80, 8080))) // says the same
	w.pods.Set(kubernetes.Pods{})
	if got := hear(t, s); got != "" {
		t.Errorf("nothing selects it, told: %s", got)
	}
	if err := s.Send(&beside.Place{Addresses: []string{"10.42.0.8"}}); err != nil {
		t.Fatal(err)
	}
	if got := hear(t, s); got != "" { // every message is answered
		t.Errorf("somewhere else, told: %s", got)
	}
}

func TestASidecarThatSaysNoAddressIsKnownByTheOneItCallsFrom(t *testing.T) {
	w := newWorld(t)
	w.pods.Set(podsAt("127.0.0.1", ordersID, serving("orders", 80, 8080)))
	if got := hear(t, w.sidecar(w.mesh.Workload("east", "shop", "orders"))); got != "shop/orders 80 http 127.0.0.1:8080" {
		t.Errorf("told: %s", got)
	}
}

func TestNobodyIsToldWhatAnotherIdentityServes(t *testing.T) {
	w := newWorld(t)
	w.pods.Set(podsAt("10.42.0.7", ordersID, serving("orders", 80, 8080)))
	for _, who := range []*identity.Source{w.mesh.Workload("east", "shop", "cart"), w.mesh.Workload("west", "shop", "orders")} {
		if got := hear(t, w.sidecar(who, "10.42.0.7")); got != "" {
			t.Errorf("%s is told %s", who.ID(), got)
		}
	}
	_, err := w.sidecar(w.mesh.Gateway("east", "east-2"), "10.42.0.7").Recv()
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("a gateway: %v", err)
	}
	_, err = w.sidecar(w.mesh.Workload("east", "shop", "orders"), "localhost").Recv()
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("an address that is none: %v", err)
	}
	_, err = w.sidecar(w.mesh.Workload("east", "shop", "orders"), make([]string, beside.MaxAddresses+1)...).Recv()
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("too many addresses: %v", err)
	}
}

func TestPortsAreBoundedAndOfTwoTargetsOneCounts(t *testing.T) {
	var many []kubernetes.ServedPort
	for i := range 2 * beside.MaxPorts {
		many = append(many, serving(fmt.Sprintf("s%04d", i), 80, 8080))
	}
	at := []netip.Addr{netip.MustParseAddr("10.42.0.7")}
	if n := len(portsOf(podsAt("10.42.0.7", ordersID, many...), ordersID, at).GetPorts()); n != beside.MaxPorts {
		t.Errorf("%d ports", n)
	}
	m := portsOf(podsAt("10.42.0.7", ordersID, serving("orders", 80, 8080), serving("orders", 80, 8081)), ordersID, at)
	if len(m.GetPorts()) != 1 || m.GetPorts()[0].GetTarget() != "10.42.0.7:8080" {
		t.Errorf("two targets: %v", m)
	}
}
