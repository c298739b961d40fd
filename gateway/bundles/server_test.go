package bundles_test

import (
	"crypto/x509"
	"errors"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/isthmus-mesh/isthmus/gateway/bundles"
	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/trust"
)

var errUnknown = errors.New("not what it said")

func signed(t *testing.T, m *identitytest.Mesh, number uint64) *identity.Bundle {
	t.Helper()
	b, err := identity.Bundle{TrustDomain: "mesh.example", Number: number, Roots: []*x509.Certificate{m.Root.Certificate()}}.Sign(m.Root)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestASidecarIsAnsweredAtOnceSentWhatIsNewerAndKnownToLackIt(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	gateway, sidecar := m.Gateway("east", "east-1"), m.Workload("east", "shop", "orders")
	s := bundles.New(gateway.Trust(), nil)
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(gateway.ServerTLS(identitytest.AnyWorkload(), "h2"))))
	s.Attach(srv)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(sidecar.ClientTLS("", identity.AnyGateway(), "h2"))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	stream, err := trust.NewTrustClient(conn).Follow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	say := func(number uint64, refused string) {
		t.Helper()
		err := stream.Send(&trust.Holding{Held: []*trust.Held{{TrustDomain: "mesh.example", Number: number}}, Refused: refused})
		if err != nil {
			t.Fatal(err)
		}
	}
	hear := func(want ...*identity.Bundle) {
		t.Helper()
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if len(got.GetBundles()) != len(want) {
			t.Fatalf("got %d bundles, want %d", len(got.GetBundles()), len(want))
		}
		for i, b := range want {
			if string(got.GetBundles()[i]) != string(b.Bytes()) {
				t.Errorf("bundle %d is not that of the gateway", i)
			}
		}
	}
	say(0, "")
	hear() // there is none, and that is said
	for _, b := range []*identity.Bundle{signed(t, m, 3), signed(t, m, 4)} {
		if _, err := gateway.Trust().Accept(b.Bytes()); err != nil {
			t.Fatal(err)
		}
		hear(b)
	}
	say(3, "no signature that it knows")
	if err := harness.Eventually(func() error {
		all := s.Sidecars()
		if len(all) == 1 && all[0].ID == sidecar.ID().String() && all[0].Held["mesh.example"] == 3 && all[0].Refused != "" {
			return nil
		}
		return errUnknown
	}); err != nil {
		t.Errorf("%v: %+v", err, s.Sidecars())
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := harness.Eventually(func() error {
		if len(s.Sidecars()) == 0 {
			return nil
		}
		return errUnknown
	}); err != nil {
		t.Error("a sidecar that has gone is still there")
	}
}
