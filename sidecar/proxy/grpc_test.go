package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
)

// calls is a gRPC program: Check answers with its name, or as the service's name says.
type calls struct {
	grpc_health_v1.UnimplementedHealthServer
	name      string
	timeout   atomic.Value // grpc-timeout of the last call, as the program had it left
	cancelled chan struct{}
}

func (c *calls) Check(ctx context.Context, r *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	if end, ok := ctx.Deadline(); ok {
		c.timeout.Store(time.Until(end))
	}
	_ = grpc.SetTrailer(ctx, metadata.Pairs("name", c.name))
	switch {
	case r.Service == "hang":
		<-ctx.Done()
		close(c.cancelled)
		return nil, ctx.Err()
	case strings.HasPrefix(r.Service, "fail"):
		return nil, status.Error(codes.NotFound, "there is none: "+r.Service)
	}
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

func (c *calls) Watch(_ *grpc_health_v1.HealthCheckRequest, s grpc_health_v1.Health_WatchServer) error {
	for range 3 {
		if err := s.Send(&grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}); err != nil {
			return err
		}
	}
	<-s.Context().Done()
	close(c.cancelled)
	return s.Context().Err()
}

func newCalls(t testing.TB, name string) (*calls, string) {
	c := &calls{name: name, cancelled: make(chan struct{})}
	return c, serveHealth(t, c)
}

// serveHealth is a gRPC program.
func serveHealth(t testing.TB, h grpc_health_v1.HealthServer) string {
	l := listen(t)
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, h)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { s.Stop(); wg.Wait() })
	return l.Addr().String()
}

func caller(t testing.TB, addr string) grpc_health_v1.HealthClient {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return grpc_health_v1.NewHealthClient(conn)
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func check(t testing.TB, c grpc_health_v1.HealthClient, service string) (name string, err error) {
	var trailer metadata.MD
	_, err = c.Check(within(t), &grpc_health_v1.HealthCheckRequest{Service: service}, grpc.Trailer(&trailer))
	if got := trailer.Get("name"); len(got) > 0 {
		name = got[0]
	}
	return name, err
}

func TestCallsOfOneConnectionGoToDifferentInstances(t *testing.T) {
	w := newWorld(t)
	_, a := newCalls(t, "a")
	_, b := newCalls(t, "b")
	_, plain := newCalls(t, "plain")
	ends := []mesh.Endpoint{w.instance("east", "a", a, mesh.GRPC), w.instance("east", "b", b, mesh.GRPC), plainAt("plain", plain)}
	c := caller(t, w.outbound(route(mesh.GRPC, ends...)))
	seen := map[string]int{}
	for range 60 {
		name, err := check(t, c, "")
		if err != nil {
			t.Fatal(err)
		}
		seen[name]++
	}
	if len(seen) != 3 {
		t.Errorf("calls went to %v", seen)
	}
}

// A program that dies has connections in its backlog that were accepted by nobody: what
// was to go over them was seen by nobody.
func TestACallGoesElsewhereWhenTheProgramEndsBeforeHTTP2Begins(t *testing.T) {
	w := newWorld(t)
	dying := listen(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := dying.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = dying.Close(); wg.Wait() })
	_, b := newCalls(t, "b")
	c := caller(t, w.outbound(route(mesh.GRPC, w.instance("east", "a", dying.Addr().String(), mesh.GRPC), w.instance("east", "b", b, mesh.GRPC))))
	for range 20 {
		if name, err := check(t, c, ""); err != nil || name != "b" {
			t.Fatalf("%v, from %q", err, name)
		}
	}
	alone := caller(t, w.outbound(route(mesh.GRPC, w.instance("east", "a", dying.Addr().String(), mesh.GRPC))))
	_, err := check(t, alone, "")
	if s := status.Convert(err); s.Code() != codes.Unavailable || !strings.Contains(s.Message(), "did it end") {
		t.Error(err)
	}
}

func TestAStatusOfTheProgramPassesAsItIs(t *testing.T) {
	w := newWorld(t)
	_, a := newCalls(t, "a")
	c := caller(t, w.outbound(route(mesh.GRPC, w.instance("east", "a", a, mesh.GRPC))))
	name, err := check(t, c, "fail 100% é")
	if s := status.Convert(err); s.Code() != codes.NotFound || s.Message() != "there is none: fail 100% é" || name != "a" {
		t.Errorf("%v, from %q", err, name)
	}
}

func TestAStreamEndsAtTheProgramWhenItsCallerCancels(t *testing.T) {
	w := newWorld(t)
	p, a := newCalls(t, "a")
	c := caller(t, w.outbound(route(mesh.GRPC, w.instance("east", "a", a, mesh.GRPC))))
	ctx, cancel := context.WithCancel(within(t))
	s, err := c.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	select {
	case <-p.cancelled:
	case <-time.After(20 * time.Second):
		t.Error("the program does not know")
	}
}

func TestErrorsOfTheMeshAreStatusesOfGRPC(t *testing.T) {
	w := newWorld(t)
	_, err := check(t, caller(t, w.outbound(route(mesh.GRPC, plainAt("a", w.refusing())))), "")
	if s := status.Convert(err); s.Code() != codes.Unavailable || !strings.Contains(s.Message(), "no connection") {
		t.Errorf("nobody listens: %v", err)
	}
	_, err = check(t, caller(t, w.outbound(route(mesh.GRPC, w.instance("east", "a", w.refusing(), mesh.GRPC)))), "")
	if s := status.Convert(err); s.Code() != codes.Unavailable {
		t.Errorf("the far program does not listen: %v", err)
	}
	_, err = check(t, caller(t, w.outbound(route(mesh.GRPC))), "")
	if s := status.Convert(err); s.Code() != codes.Unavailable || !strings.Contains(s.Message(), "no instance") {
		t.Errorf("there is no instance: %v", err)
	}
}

func TestACallsTimeoutEndsItEverywhereAndGoesOnShortened(t *testing.T) {
	w := newWorld(t)
	p, a := newCalls(t, "a")
	addr := w.outbound(route(mesh.GRPC, w.instance("east", "a", a, mesh.GRPC)))
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	e := newH2(t, nc, true) // one that keeps no time itself
	e.head(wireHead{first: "POST /grpc.health.v1.Health/Check", host: "a", fields: []string{"content-type: application/grpc", "te: trailers", "grpc-timeout: 2S"}}, false)
	e.data("\x00\x00\x00\x00\x06\x0a\x04hang", true)
	h, err := e.heads()
	if err != nil || h.first != "200" || h.has("grpc-status") != "4" {
		t.Errorf("answered %v, %v", h, err)
	}
	if !e.ended {
		t.Error("the answer is not trailers alone")
	}
	select {
	case <-p.cancelled:
	case <-time.After(20 * time.Second):
		t.Error("the program does not know")
	}
	if left, _ := p.timeout.Load().(time.Duration); left <= 0 || left >= 2*time.Second {
		t.Errorf("the program had %v of 2 s left", left)
	}
}

// A host that has not taken a stream is no reason to fail: the next is asked, whatever the
// request is.
func TestStreamsThatWereNotTakenAreRetried(t *testing.T) {
	for name, refuse := range map[string]func(e *h2End){
		"refused":    func(e *h2End) { _ = e.f.WriteRSTStream(e.stream, http2.ErrCodeRefusedStream) },
		"going away": func(e *h2End) { _ = e.f.WriteGoAway(0, http2.ErrCodeNo, nil); _ = e.c.CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var refused atomic.Int64
			bad := fakes(t, func(c *net.TCPConn) {
				preface := make([]byte, 24)
				if _, err := io.ReadFull(c, preface); err != nil {
					return
				}
				e := newH2(t, c, false)
				for {
					if _, err := e.heads(); err != nil {
						return
					}
					refused.Add(1)
					refuse(e)
				}
			})
			_, good := newCalls(t, "good")
			c := caller(t, w.outbound(route(mesh.GRPC, plainAt("bad", bad), plainAt("good", good))))
			for i := range 10 {
				if name, err := check(t, c, fmt.Sprint(i)); err != nil || name != "good" {
					t.Fatalf("call %d: %q, %v", i, name, err)
				}
			}
			if refused.Load() == 0 {
				t.Error("nobody was refused")
			}
		})
	}
}

func TestACallThatThePolicyForbidsIsPermissionDenied(t *testing.T) {
	w := newWorld(t)
	_, a := newCalls(t, "a")
	g := w.guarded(a, mesh.GRPC)
	ep := mesh.Endpoint{Instance: "a", Address: inboundAddr(g.proxy).String(), Ready: true, Weight: 1,
		Identity: w.mesh.Workload("east", orders.Namespace, orders.Name).ID().String()}
	c := caller(t, w.outbound(route(mesh.GRPC, ep)))
	g.say(false)
	if _, err := check(t, c, ""); err != nil {
		t.Fatal(err)
	}
	g.say(false, policy.Policy{Namespace: "shop", Name: "closed", Action: policy.Deny, Rules: []policy.Rule{{Paths: []string{"/grpc.health.v1.Health/Check"}}}})
	_, err := check(t, c, "")
	if s := status.Convert(err); s.Code() != codes.PermissionDenied || !strings.Contains(s.Message(), "shop/closed") {
		t.Errorf("%v", err)
	}
	g.say(false)
	if _, err := check(t, c, ""); err != nil {
		t.Errorf("allowed again: %v", err)
	}
}

func TestADrainSaysGoodbyeAndLetsExchangesEnd(t *testing.T) {
	w := newWorld(t)
	l := listen(t)
	p := w.outboundProxy(route(mesh.HTTP2, plainAt("a", l.Addr().String())))
	s := &stage{combination: combination{client: 2, program: 2}, t: t, addr: explicitAddr(p).String(), l: l}
	c := s.open().(*h2End)
	c.head(wireHead{first: "GET /", host: "a"}, true)
	program, _ := s.accept()
	ended := make(chan error, 1)
	go func() { ended <- p.Shutdown(within(t)) }()
	for !c.goaway {
		if err := c.next(); err != nil {
			t.Fatal(err)
		}
	}
	program.head(wireHead{first: "200"}, false)
	program.data("late", true)
	s.is("status", s.heads(c).first, "200")
	s.body(c, "late")
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A far sidecar that knows nothing of gRPC answers by itself as HTTP does.
func TestAPageOfAFarSidecarIsAStatusForACall(t *testing.T) {
	w := newWorld(t)
	id := w.mesh.Workload("east", orders.Namespace, orders.Name)
	addr := fakes(t, func(c *net.TCPConn) {
		over := tls.Server(c, id.ServerTLS(identitytest.AnyWorkload(), "http/1.1"))
		if r, err := http.ReadRequest(bufio.NewReader(over)); err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(over, "HTTP/1.1 403 Forbidden\r\nProxy-Status: isthmus-inbound; error=http_request_denied; details=\"not you\"\r\nContent-Length: 0\r\n\r\n")
			_, _ = io.Copy(io.Discard, over)
		}
	})
	far := mesh.Endpoint{Instance: "a", Address: addr, Ready: true, Weight: 1, Identity: id.ID().String()}
	_, err := check(t, caller(t, w.outbound(route(mesh.HTTP, far))), "")
	if s := status.Convert(err); s.Code() != codes.PermissionDenied || !strings.Contains(s.Message(), "not you") {
		t.Errorf("%v", err)
	}
}

func TestAHostThatIsUnavailableIsEjected(t *testing.T) {
	w := newWorld(t)
	var asked atomic.Int64
	bad := fakes(t, func(c *net.TCPConn) {
		preface := make([]byte, 24)
		if _, err := io.ReadFull(c, preface); err != nil {
			return
		}
		e := newH2(t, c, false)
		for {
			if _, err := e.heads(); err != nil {
				return
			}
			asked.Add(1)
			e.head(wireHead{first: "200", fields: []string{"content-type: application/grpc", "grpc-status: 14", "grpc-message: busy"}}, true)
		}
	})
	_, good := newCalls(t, "good")
	c := caller(t, w.outbound(route(mesh.GRPC, plainAt("bad", bad), plainAt("good", good))))
	failed := 0
	for i := range 200 {
		if _, err := check(t, c, fmt.Sprint(i)); err != nil {
			failed++
			if s := status.Convert(err); s.Code() != codes.Unavailable || s.Message() != "busy" {
				t.Fatal(err)
			}
		}
	}
	if n := asked.Load(); int(n) != failed || n < 2 || n > 20 {
		t.Errorf("%d of 200 calls failed, %d were asked of who is unavailable", failed, n)
	}
}
