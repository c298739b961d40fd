package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/isthmus-mesh/isthmus/internal/status"
)

// serving is a gRPC program: grpc.health.v1 itself is what it serves.
func serving(t *testing.T) (*health.Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h, s := health.NewServer(), grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, h)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-ended })
	return h, l.Addr().String()
}

// calls makes one gRPC call.
func calls(addr string) error {
	c, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err = grpc_health_v1.NewHealthClient(c).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return err
}

func TestOneSidecarServesTwoServicesAndSixPortsEachByItsProtocol(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east", "west")
	m.gateway("east", "east-1")
	m.gateway("west", "west-1")
	m.resource("east", "stock", "apiVersion: isthmus.io/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: stock}\nspec: {serves: [orders]}\n")
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "orders") }))
	t.Cleanup(web.Close)
	health, grpcAt := serving(t)

	at := freePorts(m.t, 2)
	file := m.write("orders/sidecar.yaml", fmt.Sprintf(`gateways: ["%s"]
identity: %s
state: %s
listen: {inbound: "%[4]s", admin: "%[5]s"}
services:
- name: shop/orders
  advertise: "%[4]s"
  export: true
  ports:
  - {port: 80, target: "%[6]s", protocol: http}
  - {port: 9000, target: "%[7]s", protocol: grpc, health: {type: grpc, interval: 100ms}}
- name: shop/stock
  advertise: "%[4]s"
  export: true
  ports:
  - {port: 6379, target: "%[8]s", protocol: tcp}
  - {port: 7000, target: "%[8]s", protocol: auto}
  - {port: 7001, target: "%[6]s", protocol: auto}
  - {port: 7002, target: "%[7]s", protocol: auto}
`, m.gateways[0].xds, m.identity("east", "orders", "workload", "shop/orders"), m.path("orders", "state"), at[0], at[1],
		web.Listener.Addr(), grpcAt, echoes(t)))
	m.process("orders", "sidecar", "-c", file).start()
	ports := func(grpcReady bool) error {
		a, err := status.Ask(context.Background(), at[1])
		if err != nil {
			return err
		}
		for _, s := range a.Sidecar.Services {
			if s.Ready != (grpcReady || s.Port != 9000) {
				return fmt.Errorf("%+v", a.Sidecar.Services)
			}
		}
		if n := len(a.Sidecar.Services); n != 6 {
			return fmt.Errorf("%d ports", n)
		}
		return nil
	}
	m.eventually(func() error { return ports(true) })

	for _, cluster := range []string{"east", "west"} { // in the cluster, and through both gateways
		caller := "web-" + cluster
		at := freePorts(m.t, 7)
		gateway := m.gateways[0].xds
		if cluster == "west" {
			gateway = m.gateways[1].xds
		}
		file := m.write(caller+"/sidecar.yaml", fmt.Sprintf(`gateways: ["%s"]
identity: %s
state: %s
listen: {admin: "%s"}
upstreams:
- {listen: "%s", service: shop/orders}
- {listen: "%s", service: shop/orders, port: 9000}
- {listen: "%s", service: shop/stock, port: 6379}
- {listen: "%s", service: shop/stock, port: 7000}
- {listen: "%s", service: shop/stock, port: 7001}
- {listen: "%s", service: shop/stock, port: 7002}
`, gateway, m.identity(cluster, caller, "workload", "shop/web"), m.path(caller, "state"), at[0], at[1], at[2], at[3], at[4], at[5], at[6]))
		m.process(caller, "sidecar", "-c", file).start()
		m.answers("http://"+at[1]+"/", "orders")
		m.eventually(func() error { return calls(at[2]) })
		m.talks(at[3])
		m.talks(at[4])
		m.answers("http://"+at[5]+"/", "orders")
		m.eventually(func() error { return calls(at[6]) })
	}

	health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	m.eventually(func() error { return ports(false) })
	out, err := says("status", "--admin", at[1])
	for _, want := range []string{"service shop/orders, port 80/http,", "port 9000/grpc, program at " + grpcAt + ": ready no", "service shop/stock, port 6379/tcp", "it says NOT_SERVING"} {
		if !strings.Contains(out, want) {
			t.Errorf("status does not say %q (%v):\n%s", want, err, out)
		}
	}
}

func TestAPlainGRPCEndpointIsAskedForItsHealthAndCalledFromBothClusters(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east", "west")
	m.gateway("east", "east-1")
	m.gateway("west", "west-1")
	health, at := serving(t)
	resource := func(protocol, name string) {
		m.resource("west", name, fmt.Sprintf(`apiVersion: isthmus.io/v1alpha1
kind: Service
metadata: {namespace: shop, name: %s}
spec: {export: true, ports: [{port: 80, protocol: %s}], endpoints: ["%s"], health: {type: grpc, interval: 100ms}}
`, name, protocol, at))
	}
	resource("grpc", "legacy")
	resource("auto", "older")
	m.settled(map[string]uint32{"west shop/legacy": 1, "west shop/older": 1})
	for i, g := range m.gateways {
		for _, service := range []string{"legacy", "older"} {
			caller := m.sidecar(g.cluster, fmt.Sprintf("web-%s-%d", service, i), "shop/web", "", "", "shop/"+service)
			m.eventually(func() error { return calls(caller.listener) })
		}
	}
	health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	m.settled(map[string]uint32{"west shop/legacy": 0})
}
