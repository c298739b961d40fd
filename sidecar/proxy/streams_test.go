package proxy

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// checker is a gRPC program: its one method counts calls, and tells who the caller is in a
// trailer.
type checker struct {
	grpc_health_v1.UnimplementedHealthServer
	calls atomic.Int64
}

func (c *checker) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	c.calls.Add(1)
	md, _ := metadata.FromIncomingContext(ctx)
	_ = grpc.SetTrailer(ctx, metadata.Pairs("caller", strings.Join(md.Get("x-forwarded-client-cert"), ",")))
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

// grpcProgram runs a gRPC server and returns where.
func grpcProgram(t *testing.T, c *checker) string {
	t.Helper()
	l, s := listen(t), grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, c)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-ended })
	return l.Addr().String()
}

// grpcClient calls what is behind a listener, all on one connection.
func grpcClient(t *testing.T, addr string) (c grpc_health_v1.HealthClient, connections *atomic.Int64) {
	t.Helper()
	connections = new(atomic.Int64)
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			connections.Add(1)
			return plainTo(addr)(ctx)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return grpc_health_v1.NewHealthClient(cc), connections
}

func callAs(t *testing.T, c grpc_health_v1.HealthClient, md ...string) (trailer metadata.MD, err error) {
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), md...), time.Minute)
	defer cancel()
	_, err = c.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.Trailer(&trailer))
	return trailer, err
}

func TestCallsOfOneGRPCConnectionGoToEveryInstance(t *testing.T) {
	for _, protocol := range []mesh.Protocol{mesh.GRPC, mesh.HTTP2, mesh.Auto} {
		w := newWorld(t)
		var one, two checker
		addr := w.outbound(route(protocol, w.instance("east", "orders-1", grpcProgram(t, &one), protocol), w.instance("east", "orders-2", grpcProgram(t, &two), protocol)))
		c, connections := grpcClient(t, addr)
		for range 40 {
			trailer, err := callAs(t, c, "x-forwarded-client-cert", "URI=spiffe://mesh.example/admin")
			if err != nil {
				t.Fatalf("%s: %v", protocol, err)
			}
			if who := strings.Join(trailer.Get("caller"), ","); !strings.HasSuffix(who, "URI="+w.caller.ID().String()) || strings.Contains(who, "admin") {
				t.Fatalf("%s: the program took the caller for %q", protocol, who)
			}
		}
		if one.calls.Load() == 0 || two.calls.Load() == 0 || one.calls.Load()+two.calls.Load() != 40 || connections.Load() != 1 {
			t.Errorf("%s: %d and %d calls, on %d connections", protocol, one.calls.Load(), two.calls.Load(), connections.Load())
		}
	}
}

func TestCallersPastTheMeshMayCallAPermissiveGRPCPort(t *testing.T) {
	w := newWorld(t)
	for _, protocol := range []mesh.Protocol{mesh.GRPC, mesh.Auto} {
		var program checker
		addr, by := w.steered(grpcProgram(t, &program), protocol, true)
		c, _ := grpcClient(t, addr)
		trailer, err := callAs(t, c, "x-forwarded-client-cert", "URI=spiffe://mesh.example/admin")
		if err != nil || strings.Contains(strings.Join(trailer.Get("caller"), ","), "admin") || by.Load() == nil {
			t.Errorf("%s: %v %v, dialled for %v", protocol, trailer, err, by.Load())
		}
		strict, _ := w.steered(grpcProgram(t, &program), protocol, false)
		c, _ = grpcClient(t, strict)
		if _, err := callAs(t, c); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "interception.inbound") {
			t.Errorf("%s, strict: %v", protocol, err)
		}
	}
}
