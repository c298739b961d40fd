package cli

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// answering serves what answer returns at /status and returns host:port.
func answering(t *testing.T, answer func() any) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(answer()); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func runStatus(args ...string) (code int, out string) {
	var b bytes.Buffer
	code = Main(append([]string{"status"}, args...), &b, &b)
	return code, b.String()
}

func valid() status.Certificate {
	return status.Certificate{NotAfter: time.Now().Add(time.Hour), WarnFrom: time.Now().Add(time.Minute)}
}

func gatewayAnswer() *status.Gateway {
	east, west := mesh.GatewayID{Cluster: "east", Name: "east-1"}, mesh.GatewayID{Cluster: "west", Name: "west-1"}
	return &status.Gateway{
		Self: east, Version: "v1.2.3", Ready: true, Certificate: valid(),
		Gateways: []status.Peer{{ID: east, Tunnel: "self", Gossip: "alive"}, {ID: west, Address: "h:7443", Tunnel: "up", Gossip: "alive", RTT: 1.5}},
	}
}

func TestStatusBeginsWithAVerdictAndExitsWithOneWhenSomethingIsWrong(t *testing.T) {
	s := gatewayAnswer()
	admin := answering(t, func() any { return s })
	if code, out := runStatus("--admin", admin); code != 0 || !strings.HasPrefix(out, "2 clusters, 2 gateways, 0 services: nothing is wrong\n") {
		t.Errorf("%d: %s", code, out)
	}
	s.Gateways[1].Tunnel, s.Gateways[1].LastError = "down", "no answer"
	s.Faults = []status.ResourceFault{{File: "a.yaml", Error: "a.yaml:1: bad"}}
	code, out := runStatus("--admin", admin)
	if code != 1 || !strings.HasPrefix(out, "2 clusters, 1 tunnel down: west/west-1 (no answer); resource file a.yaml is bad: a.yaml:1: bad\n") {
		t.Errorf("%d: %s", code, out)
	}
	for _, want := range []string{"certificate until " + s.Certificate.NotAfter.UTC().Format(time.RFC3339), "version v1.2.3", "a.yaml          a.yaml:1: bad"} {
		if !strings.Contains(out, want) {
			t.Errorf("missing %q in:\n%s", want, out)
		}
	}
	code, out = runStatus("--admin", admin, "-o", "json")
	var got struct {
		OK       bool
		Problems []string
		Self     string
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 1 || got.OK || len(got.Problems) != 2 || got.Self != "east/east-1" {
		t.Errorf("%d: %+v, %v", code, got, err)
	}
}

func TestStatusShowsASidecarsView(t *testing.T) {
	shop := mesh.ServiceName{Namespace: "shop", Name: "orders"}
	admin := answering(t, func() any {
		return &status.Sidecar{
			Identity: "spiffe://mesh.example/cluster/east/ns/shop/sa/web", Ready: true, Certificate: valid(),
			Gateways: []status.GatewayLink{{Address: "127.0.0.1:15012", XDS: true, Registered: true}},
			Services: []status.Registration{{Service: shop, Port: 80, Protocol: "http", Target: "127.0.0.1:8080", Ready: true}, {Service: shop, Port: 9000, Protocol: "grpc", Target: "127.0.0.1:9001"}},
			Upstreams: []status.Upstream{{
				Listen: "127.0.0.1:9001", Destination: mesh.Destination{Service: shop, Port: 80}, State: "known", Avoided: []string{"west/orders-2"},
				Local:    []status.Host{{Instance: "orders-1", Address: "10.0.0.7:15008", Ready: true, Idle: 3, LatencyMS: 1.2}},
				Gateways: []status.Host{{Address: "10.0.0.5:15443", Ready: true, EjectedFor: 2, LastError: "refused"}},
			}},
		}
	})
	code, out := runStatus("--admin", admin)
	if code != 0 || !strings.HasPrefix(out, "1 gateway, 1 upstream: nothing is wrong\n") {
		t.Errorf("%d: %s", code, out)
	}
	for _, want := range []string{"sidecar spiffe://mesh.example/", "orders.shop.mesh:80", "orders-1", "10.0.0.7:15008", "(gateway)", "avoided for 2.0s: refused", "west/orders-2",
		"service shop/orders, port 80/http, program at 127.0.0.1:8080: ready yes\n", "service shop/orders, port 9000/grpc, program at 127.0.0.1:9001: ready no\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("missing %q in:\n%s", want, out)
		}
	}
}

func TestStatusWaitsUntilNothingIsWrong(t *testing.T) {
	var asked atomic.Int32
	admin := answering(t, func() any {
		s := gatewayAnswer()
		if asked.Add(1) < 3 {
			s.Pending = []status.Condition{{Name: "services", Reason: "not known"}}
		}
		return s
	})
	if code, out := runStatus("--admin", admin, "--wait"); code != 0 || asked.Load() != 3 {
		t.Errorf("%d after %d questions: %s", code, asked.Load(), out)
	}
	asked.Store(-1000)
	if code, out := runStatus("--admin", admin, "--wait=300ms"); code != 1 || !strings.Contains(out, "not ready: services (not known)") {
		t.Errorf("%d: %s", code, out)
	}
}

func TestWhatPeersSayCannotMoveTheCursorOrMakeLines(t *testing.T) {
	s := gatewayAnswer()
	s.Gateways[1].LastError = "\x1b[2Jgone\nGATEWAY ok\u009b1A\u202e" + strings.Repeat("x", 5000)
	admin := answering(t, func() any { return s })
	_, out := runStatus("--admin", admin)
	if strings.ContainsAny(out, "\x1b\u009b\u202e") || strings.Contains(out, "\nGATEWAY ok") || len(out) > 4000 {
		t.Errorf("%q", out)
	}
	if !strings.Contains(out, `\x1b[2Jgone\nGATEWAY ok\u009b1A\u202e`) {
		t.Errorf("%q does not show what was said", out)
	}
}

func TestStatusOfWhatIsNoProcessOfOursSaysSo(t *testing.T) {
	admin := answering(t, func() any { return "hello" })
	if code, out := runStatus("--admin", admin); code != 1 || !strings.Contains(out, "no status") || !strings.Contains(out, "--admin") {
		t.Errorf("%d: %s", code, out)
	}
	if code, out := runStatus("--admin", "nonsense"); code != 2 {
		t.Errorf("%d: %s", code, out)
	}
}
