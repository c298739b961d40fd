package gatewaylink

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/register"
)

// queueing is a gateway that shakes hands when it may.
type queueing struct {
	credentials.TransportCredentials
	came atomic.Int32
	may  chan struct{}
}

func (q *queueing) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	q.came.Add(1)
	<-q.may
	return q.TransportCredentials.ServerHandshake(c)
}

func (q *queueing) Clone() credentials.TransportCredentials { return q }

type registry struct {
	register.UnimplementedRegistryServer
}

func (registry) Register(s register.Registry_RegisterServer) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	return s.Send(&register.Ack{})
}

func TestASidecarKeepsItsPlaceInTheQueueOfABusyGateway(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	gate := &queueing{TransportCredentials: credentials.NewTLS(m.Gateway("east", "east-1").ServerTLS(identitytest.WorkloadOf("east"), "h2")), may: make(chan struct{})}
	srv := grpc.NewServer(grpc.Creds(gate))
	register.RegisterRegistryServer(srv, registry{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() { _ = srv.Serve(l) })
	defer served.Wait()
	defer srv.Stop()

	links, err := New(m.Workload("east", "shop", "web"), []string{l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() error {
		return Converse(t.Context(), links[0],
			func(ctx context.Context, conn grpc.ClientConnInterface) (register.Registry_RegisterClient, error) {
				return register.NewRegistryClient(conn).Register(ctx)
			},
			func(s *Stream[register.Registration, register.Ack]) error {
				if err := s.Send(&register.Registration{}); err != nil {
					return err
				}
				if _, ok := <-s.Received(); !ok {
					return s.Err()
				}
				return nil
			})
	}
	if err := ask(); !errors.Is(err, errNoConnection) {
		t.Fatalf("%v, want %v", err, errNoConnection)
	}
	close(gate.may)
	if err := ask(); err != nil {
		t.Error(err)
	}
	if n := gate.came.Load(); n != 1 {
		t.Errorf("it came %d times, and lost its place", n)
	}
}
