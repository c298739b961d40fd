package gatewaylink

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/register"
)

// holding is a gateway that keeps its streams.
type holding struct {
	register.UnimplementedRegistryServer
}

func (holding) Register(s register.Registry_RegisterServer) error {
	if err := s.Send(&register.Ack{}); err != nil {
		return err
	}
	<-s.Context().Done()
	return s.Context().Err()
}

func TestAStreamToAGatewayThatIsRevokedEndsWhateverThatGatewayDoes(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	gateway := m.Gateway("east", "east-1")
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(gateway.ServerTLS(identitytest.WorkloadOf("east"), "h2"))))
	register.RegisterRegistryServer(srv, holding{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() { _ = srv.Serve(l) })
	defer served.Wait()
	defer srv.Stop()
	web := m.Workload("east", "shop", "web")
	links, err := New(web, []string{l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	revoke := func(number uint64, what string) {
		t.Helper()
		b, err := identity.Bundle{TrustDomain: "mesh.example", Number: number, Roots: []*x509.Certificate{m.Root.Certificate()},
			Revoked: []identity.Revocation{{What: what}}}.Sign(m.Root)
		if err == nil {
			_, err = web.Trust().Accept(b.Bytes())
		}
		if err != nil {
			t.Fatal(err)
		}
		Judge(links, slog.New(slog.DiscardHandler))
	}
	err = Converse(t.Context(), links[0],
		func(ctx context.Context, conn grpc.ClientConnInterface) (register.Registry_RegisterClient, error) {
			return register.NewRegistryClient(conn).Register(ctx)
		},
		func(s *Stream[register.Registration, register.Ack]) error {
			<-s.Received()
			s.Answered()
			revoke(1, "spiffe://mesh.example/cluster/east/gateway/east-2")
			select {
			case <-s.Received():
				t.Error("the revocation of another gateway ended the stream")
			default:
			}
			revoke(2, gateway.ID().String())
			return s.Err()
		})
	if err == nil {
		t.Error("the stream goes on")
	}
	if links[0].Usable() != nil {
		t.Error("it takes itself for revoked")
	}
	revoke(3, web.ID().String())
	if links[0].Usable() == nil {
		t.Error("who is revoked asks for more than bundles")
	}
}
