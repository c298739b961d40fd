package e2e

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// unavailable is a gRPC program; while it is busy each call is UNAVAILABLE.
type unavailable struct {
	grpc_health_v1.UnimplementedHealthServer
	busy  atomic.Bool
	calls atomic.Int64
}

func (u *unavailable) Check(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	u.calls.Add(1)
	if u.busy.Load() {
		return nil, status.Error(codes.Unavailable, "busy")
	}
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

// serve runs it; it returns its address.
func (u *unavailable) serve(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, u)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { s.Stop(); wg.Wait() })
	return l.Addr().String()
}

const retriedCalls = `apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata:
  namespace: shop
  name: orders
  annotations: {isthmus.io/retry: '{codes: [UNAVAILABLE], attempts: 2}'}
spec:
  parentRefs: [{group: multicluster.x-k8s.io, kind: ServiceImport, name: orders}]
  rules:
    - matches: [{method: {service: grpc.health.v1.Health, method: Check}}]
      backendRefs: [{group: multicluster.x-k8s.io, kind: ServiceImport, name: orders, port: 80}]
`

func TestCallersSeeNothingOfAnInstanceThatIsUnavailableWhereARouteHasCallsMadeAgain(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east", "west")
	m.gateway("east", "east-1")
	m.gateway("west", "west-1")
	busy := &unavailable{}
	m.sidecar("east", "orders-1", "shop/orders", "grpc", busy.serve(t), "")
	m.sidecar("east", "orders-2", "shop/orders", "grpc", new(unavailable).serve(t), "")
	near := m.sidecar("east", "near", "shop/web", "", "", "shop/orders")
	far := m.sidecar("west", "far", "shop/web", "", "", "shop/orders")
	m.settled(map[string]uint32{"east shop/orders": 2})
	for cluster, caller := range map[string]*sidecarProc{"east": near, "west": far} {
		conn, err := grpc.NewClient("passthrough:///"+caller.listener, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		c := grpc_health_v1.NewHealthClient(conn)
		ctx, cancel := context.WithTimeout(t.Context(), 2*limit)
		defer cancel()
		check := func() error {
			_, err := c.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
			return err
		}
		m.eventually(check)

		// Without a route what a program says is the answer.
		busy.busy.Store(true)
		m.eventually(func() error {
			if err := check(); status.Convert(err).Message() != "busy" {
				return fmt.Errorf("nobody is busy: %v", err)
			}
			return nil
		})

		m.resource(cluster, "orders-route", retriedCalls)
		m.eventually(func() error {
			if _, err := c.List(ctx, &grpc_health_v1.HealthListRequest{}); !strings.Contains(fmt.Sprint(err), "no rule") {
				return fmt.Errorf("the route is not in force: %v", err)
			}
			return nil
		})
		before := busy.calls.Load()
		m.eventually(func() error {
			if err := check(); err != nil {
				t.Fatalf("a caller in %s sees %v", cluster, err)
			}
			if n := busy.calls.Load() - before; n < 3 {
				return fmt.Errorf("who is busy was asked %d times", n)
			}
			return nil
		})
		busy.busy.Store(false)
	}
}
