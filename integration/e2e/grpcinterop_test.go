package e2e

import (
	"net"
	"os/exec"
	"testing"
)

// grpcCases are those of gRPC's interoperability tests that grpc-go's client has and that need
// nobody's cloud; but pick_first_unary, which its server does not serve: it says no server_id.
var grpcCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
	"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response",
	"status_code_and_message", "special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service",
	"orca_per_rpc", "orca_oob", "rpc_soak", "channel_soak",
}

// grpcServer starts gRPC's own interoperability server.
func (m *testMesh) grpcServer(t *testing.T) string {
	t.Helper()
	at := freePorts(t, 1)[0]
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	m.program("grpc-server", goTool(t, "google.golang.org/grpc/interop/server"), "-port", port)
	return at
}

// passesGRPCInterop runs gRPC's own client against an address.
func passesGRPCInterop(t *testing.T, client, address string) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range grpcCases {
		args := []string{"-server_host", host, "-server_port", port, "-test_case", c, "-soak_per_iteration_max_acceptable_latency_ms", "30000", "-soak_overall_timeout_seconds", "60"}
		if c == "orca_per_rpc" || c == "orca_oob" {
			args = append(args, "-service_config_json", `{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`)
		}
		if out, err := exec.CommandContext(t.Context(), client, args...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", c, err, out)
		}
	}
}

func TestGRPCsOwnClientAndServerPassEveryCaseThroughTwoSidecarsAndTwoGateways(t *testing.T) {
	t.Parallel()
	client := goTool(t, "google.golang.org/grpc/interop/client")
	m := newMesh(t, "east", "west")
	m.gateway("east", "east-1")
	m.gateway("west", "west-1")
	m.sidecar("east", "orders-1", "shop/orders", "grpc", m.grpcServer(t), "")
	near := m.sidecar("east", "near", "shop/web", "", "", "shop/orders")
	far := m.sidecar("west", "far", "shop/web", "", "", "shop/orders")
	m.settled(map[string]uint32{"east shop/orders": 1})
	t.Run("in a cluster", func(t *testing.T) { passesGRPCInterop(t, client, near.listener) })
	t.Run("through two gateways", func(t *testing.T) { passesGRPCInterop(t, client, far.listener) })
}
