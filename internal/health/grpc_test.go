package health

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// serveGRPC runs a gRPC server with what register adds.
func serveGRPC(t *testing.T, register func(*grpc.Server)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	register(s)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-ended })
	return l.Addr().String()
}

func TestAGRPCCheckPassesWhatSaysServingAndTellsTheRestApart(t *testing.T) {
	h := health.NewServer()
	h.SetServingStatus("shop.Orders", grpc_health_v1.HealthCheckResponse_SERVING)
	h.SetServingStatus("shop.Cart", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	addr := serveGRPC(t, func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, h) })
	without := serveGRPC(t, func(*grpc.Server) {})
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	for name, tc := range map[string]struct {
		check Check
		addr  string
		want  string // in the error; empty: healthy
	}{
		"the whole program":  {Check{Kind: GRPC}, addr, ""},
		"a service":          {Check{Service: "shop.Orders"}, addr, ""},
		"one not ready":      {Check{Service: "shop.Cart"}, addr, "it says NOT_SERVING"},
		"one not known":      {Check{Service: "shop.Nobody"}, addr, `reports on no service "shop.Nobody": write one`},
		"no health service":  {Check{Kind: GRPC}, without, "add that service to it, or write type: tcp"},
		"an HTTP/1.1 server": {Check{Kind: GRPC}, web.Listener.Addr().String(), "does it speak gRPC"},
	} {
		tc.check.Timeout = 10 * time.Second
		err := tc.check.Probe(t.Context(), tc.addr)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func TestAGRPCCheckOfWhoIsSilentOrGoneEnds(t *testing.T) {
	silent := answer(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	err := Check{Kind: GRPC, Timeout: 50 * time.Millisecond}.Probe(t.Context(), silent)
	if err == nil || !strings.Contains(err.Error(), "no answer within 50ms") {
		t.Errorf("of a silent program: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := (Check{Kind: GRPC}).Probe(t.Context(), l.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("of nobody: %v", err)
	}
}

func TestWhatACheckAsksForFitsItsType(t *testing.T) {
	for want, c := range map[string]Check{
		"service: a tcp check asks for no service": {Kind: TCP, Service: "a"},
		"service: stands beside path":              {Path: "/x", Service: "a"},
		"path: a grpc check asks for no path":      {Kind: GRPC, Path: "/x"},
		`service: "a b" is no gRPC service`:        {Service: "a b"},
		"":                                         {Kind: GRPC, Service: "shop.v1.Orders"},
	} {
		var got []string
		c.Validate(func(key, problem string) { got = append(got, key+": "+problem) })
		if all := strings.Join(got, "\n"); !strings.HasPrefix(all, want) || want == "" && all != "" {
			t.Errorf("%+v: %q, want %q", c, all, want)
		}
	}
}
