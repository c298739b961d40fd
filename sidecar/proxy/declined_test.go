package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
)

// retrying is a route to local endpoints with a rule for each path, whose requests are sent again so.
func retrying(protocol mesh.Protocol, rules map[string]mesh.Retry, local ...mesh.Endpoint) *mesh.Route {
	r := route(protocol, local...)
	for path, retry := range rules {
		r.Rules = append(r.Rules, mesh.Rule{Name: "retry " + path, Match: prefix(path), Action: mesh.Action{Backends: to("own"), Retry: &retry}})
	}
	return r
}

// The cases of HTTPRouteRetry of Gateway API's conformance suite, which has them for gateways:
// a program that fails some times before it answers.
func TestARuleHasARequestSentAgainAfterItsCodes(t *testing.T) {
	var mu sync.Mutex
	asked := map[string]int{}
	program := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked[r.FormValue("id")]++
		n := asked[r.FormValue("id")]
		mu.Unlock()
		if after, _ := strconv.Atoi(r.FormValue("after")); n <= after {
			code, _ := strconv.Atoi(r.FormValue("code"))
			rw.WriteHeader(code)
		}
		_, _ = fmt.Fprintf(rw, "%d", n)
	})
	rules := map[string]mesh.Retry{"/some": {Codes: []int{500}, Attempts: 3}, "/all": {Codes: []int{500, 502, 503, 504}, Attempts: 2},
		"/most": {Codes: []int{503}, Attempts: 5}}
	w := newWorld(t)
	addr := w.outbound(retrying(mesh.HTTP, rules, w.web("east", "orders-1", program)))
	for i, c := range []struct {
		path        string
		code, after int
		want, sends int
	}{
		{"/some", 500, 2, 200, 3},
		{"/some", 500, 4, 500, 4},
		{"/some", 503, 2, 503, 1},
		{"/all", 500, 1, 200, 2},
		{"/all", 500, 3, 500, 3},
		{"/all", 502, 1, 200, 2},
		{"/all", 502, 3, 502, 3},
		{"/all", 503, 1, 200, 2},
		{"/all", 503, 3, 503, 3},
		{"/all", 504, 1, 200, 2},
		{"/all", 504, 3, 504, 3},
		{"/most", 503, 5, 200, 6},
	} {
		id := strconv.Itoa(i)
		code, body := get(t, httpClient(t), fmt.Sprintf("http://%s%s?id=%s&code=%d&after=%d", addr, c.path, id, c.code, c.after))
		mu.Lock()
		n := asked[id]
		mu.Unlock()
		if code != c.want || n != c.sends || body != strconv.Itoa(n) {
			t.Errorf("%+v: %d %q after %d sends", c, code, body, n)
		}
	}
}

func TestWhatIsSentAgainGoesToAnotherInstanceFirstWithItsBody(t *testing.T) {
	w := newWorld(t)
	busy := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		http.Error(rw, "busy", 429) // which ejects nobody
	})
	addr := w.outbound(retrying(mesh.HTTP, map[string]mesh.Retry{"/": {Codes: []int{429}, Attempts: 1}},
		w.web("east", "orders-1", busy), w.web("east", "orders-2", http.HandlerFunc(echoBody))))
	c := httpClient(t)
	// Bodies that come with the head, behind it, and chunked.
	for _, body := range []string{"", "small", strings.Repeat("m", 40<<10)} {
		for range 8 {
			req, _ := http.NewRequest("POST", "http://"+addr, struct{ io.Reader }{strings.NewReader(body)})
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if string(b) != "POST "+body {
				t.Fatalf("%d, %d bytes; want the echo of %d", resp.StatusCode, len(b), len(body))
			}
		}
	}
}

func TestABodyThatIsNotKeptWholeTakesTheAnswerAsItIs(t *testing.T) {
	w := newWorld(t)
	var asked atomic.Int64
	busy := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		http.Error(rw, "busy", 503)
	})
	addr := w.outbound(retrying(mesh.HTTP, map[string]mesh.Retry{"/": {Codes: []int{503}, Attempts: 3}}, w.web("east", "orders-1", busy)))
	req, _ := http.NewRequest("POST", "http://"+addr, &pattern{left: 1 << 20})
	resp, err := httpClient(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 503 || string(b) != "busy\n" || asked.Load() != 1 {
		t.Errorf("%d %q after %d sends", resp.StatusCode, b, asked.Load())
	}
}

func TestARuleMakesAnyMethodRepeatable(t *testing.T) {
	for name, far := range map[string]bool{"a plain program": false, "a program behind its sidecar": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var hits atomic.Int64
			program := func(name string) mesh.Endpoint {
				if far {
					return w.instance("east", name, dying(t, &hits), mesh.HTTP)
				}
				return plainAt(name, dying(t, &hits))
			}
			addr := w.outbound(retrying(mesh.HTTP, map[string]mesh.Retry{"/": {Attempts: 4}}, program("a"), program("b"), program("c")))
			resp, err := httpClient(t).Post("http://"+addr, "a/b", strings.NewReader("order"))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			// Once: what kills its server must not walk through all of them.
			if resp.StatusCode != 502 || hits.Load() != 2 {
				t.Errorf("%d after %d sends, want 502 after 2", resp.StatusCode, hits.Load())
			}
		})
	}
}

func TestAnAnswerOfTheMeshIsNotSentAgainForItsCode(t *testing.T) {
	w := newWorld(t)
	g := w.guarded(w.program(says("orders")), mesh.HTTP)
	g.say(false, policy.Policy{Namespace: orders.Namespace, Name: "nobody", Action: policy.Deny, Rules: []policy.Rule{{}}})
	id := w.mesh.Workload("east", orders.Namespace, orders.Name).ID().String()
	ep := mesh.Endpoint{Instance: "orders-1", Address: inboundAddr(g.proxy).String(), Ready: true, Weight: 1, Identity: id}
	addr := w.outbound(retrying(mesh.HTTP, map[string]mesh.Retry{"/": {Codes: []int{403}, Attempts: 5}}, ep))
	if code, body := get(t, httpClient(t), "http://"+addr); code != 403 {
		t.Errorf("%d %q", code, body)
	}
	if n := g.counted(t); n != 1 {
		t.Errorf("the far sidecar has decided about %v requests, want 1", n)
	}
}

// counted is how many requests the far sidecar has decided about.
func (g *guarded) counted(t *testing.T) (n float64) {
	families, err := g.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			n += m.GetCounter().GetValue()
		}
	}
	return n
}

func TestABackOffIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	const backoff = 50 * time.Millisecond
	var mu sync.Mutex
	var at []time.Time
	program := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		at = append(at, time.Now())
		rw.WriteHeader(503)
	})
	r := retrying(mesh.HTTP, map[string]mesh.Retry{"/": {Codes: []int{503}, Attempts: 2, Backoff: backoff}, "/short": {Codes: []int{503}, Attempts: 2, Backoff: 10 * time.Second}},
		plainAt("a", w.program(program)), plainAt("b", w.program(program)))
	for i := range r.Rules {
		if r.Rules[i].Match.Path.Value == "/short" {
			r.Rules[i].Action.Timeout = 9 * time.Second
		}
	}
	slices.SortFunc(r.Rules, func(a, b mesh.Rule) int { return len(b.Match.Path.Value) - len(a.Match.Path.Value) })
	addr := w.outbound(r)
	if code, _ := get(t, httpClient(t), "http://"+addr); code != 503 || len(at) != 3 {
		t.Fatalf("%d after %d sends", code, len(at))
	}
	for i := range 2 {
		if pause := at[i+1].Sub(at[i]); pause < backoff {
			t.Errorf("sent again after %s, want at least %s", pause, backoff)
		}
	}
	// For which there is no time, the answer passes at once.
	if code, _ := get(t, httpClient(t), "http://"+addr+"/short"); code != 503 || len(at) != 4 {
		t.Errorf("%d after %d sends, want the first 503", code, len(at)-3)
	}
}

func TestWhoTakesTooLongIsAskedElsewhere(t *testing.T) {
	w := newWorld(t)
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(slow.Close)
	r := retrying(mesh.HTTP, map[string]mesh.Retry{"/": {Attempts: 1}}, plainAt("slow", slow.Listener.Addr().String()), plainAt("good", w.program(http.HandlerFunc(echoBody))))
	r.Rules[0].Action.BackendTimeout = 300 * time.Millisecond
	addr := w.outbound(r)
	for range 4 {
		if code, body := get(t, httpClient(t), "http://"+addr); code != 200 {
			t.Errorf("%d %s", code, body)
		}
	}
}

// What is declared bounds what is sent, whatever becomes of it, and whoever answers.
func TestNoMoreIsSentThanARuleDeclares(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	var next []string // what becomes of each send
	sends := 0
	died := 0
	request := 0 // which one is made: what was given up of another may still arrive
	take := func(r *http.Request) string {
		mu.Lock()
		defer mu.Unlock()
		fate := "ok"
		if r.Header.Get("X-Request") != strconv.Itoa(request) {
			return fate
		}
		if sends < len(next) {
			fate = next[sends]
		}
		if sends++; fate == "dies" {
			died++
		}
		return fate
	}
	program := func(c *net.TCPConn) {
		in := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			switch fate := take(r); fate {
			case "dies":
				return
			case "ok":
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			case "partly":
				_, _ = io.WriteString(c, "HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\nx")
				return
			default:
				_, _ = fmt.Fprintf(c, "HTTP/1.1 %s Busy\r\nContent-Length: 0\r\n\r\n", fate)
			}
		}
	}
	rules := map[string]mesh.Retry{}
	for n := 1; n <= 5; n++ {
		rules[fmt.Sprintf("/%d", n)] = mesh.Retry{Codes: []int{500, 503}, Attempts: n}
	}
	addr := w.outbound(retrying(mesh.HTTP, rules, w.instance("east", "orders-1", fakes(t, program), mesh.HTTP), w.instance("east", "orders-2", fakes(t, program), mesh.HTTP),
		plainAt("plain", fakes(t, program)), plainAt("gone", "127.0.0.1:1")))
	c := httpClient(t)
	rapid.Check(t, func(t *rapid.T) {
		attempts := rapid.IntRange(1, 5).Draw(t, "attempts")
		method := rapid.SampledFrom([]string{"GET", "POST", "PATCH"}).Draw(t, "method")
		fates := rapid.SliceOfN(rapid.SampledFrom([]string{"ok", "dies", "500", "503", "partly", "404"}), 0, 8).Draw(t, "fates")
		body := strings.Repeat("x", rapid.SampledFrom([]int{0, 10, 30 << 10}).Draw(t, "body"))
		mu.Lock()
		next, sends, died = fates, 0, 0
		request++
		mu.Unlock()
		r, _ := http.NewRequest(method, fmt.Sprintf("http://%s/%d", addr, attempts), strings.NewReader(body))
		r.Header.Set("X-Request", strconv.Itoa(request))
		resp, err := c.Do(r)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		mu.Lock()
		defer mu.Unlock()
		most := 1 + attempts
		if method == "GET" { // what dies of it beside its sidecar is asked once more by that one, as without a rule
			most += died
		}
		switch {
		case err != nil:
			t.Fatalf("%v after %d sends", err, sends)
		case sends > most:
			t.Fatalf("sent %d times, with %d attempts declared", sends, attempts)
		case sends == 0:
			t.Fatalf("%d, and nothing was sent", resp.StatusCode)
		case slices.Contains([]int{200, 404}, resp.StatusCode) != (sends > len(fates) || slices.Contains([]string{"ok", "404"}, fates[sends-1])):
			t.Fatalf("%d after %d sends", resp.StatusCode, sends)
		}
	})
}

// busy is a gRPC program that answers its first calls as it is told.
type busy struct {
	grpc_health_v1.UnimplementedHealthServer
	mu    sync.Mutex
	fails int
	code  codes.Code
	left  []time.Duration // of the deadline, by call
}

func (b *busy) answer(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if end, ok := ctx.Deadline(); ok {
		b.left = append(b.left, time.Until(end))
	}
	if b.fails--; b.fails >= 0 {
		return status.Error(b.code, "busy")
	}
	return nil
}

func (b *busy) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	return &grpc_health_v1.HealthCheckResponse{}, b.answer(ctx)
}

// Watch sends a message before it fails.
func (b *busy) Watch(_ *grpc_health_v1.HealthCheckRequest, s grpc_health_v1.Health_WatchServer) error {
	_ = s.Send(&grpc_health_v1.HealthCheckResponse{})
	return b.answer(s.Context())
}

func TestACallIsMadeAgainAfterTheStatusesOfItsRule(t *testing.T) {
	w := newWorld(t)
	b := &busy{}
	addr := w.outbound(retrying(mesh.GRPC, map[string]mesh.Retry{"/": {Statuses: []string{"UNAVAILABLE", "RESOURCE_EXHAUSTED"}, Attempts: 2, Backoff: 10 * time.Millisecond}},
		w.instance("east", "orders-1", serveHealth(t, b), mesh.GRPC)))
	c := caller(t, addr)
	for _, f := range []struct {
		code  codes.Code
		fails int
		want  codes.Code
		sends int
	}{
		{codes.Unavailable, 1, codes.OK, 2},
		{codes.ResourceExhausted, 2, codes.OK, 3},
		{codes.Unavailable, 3, codes.Unavailable, 3},
		{codes.Internal, 1, codes.Internal, 1},
	} {
		b.mu.Lock()
		b.code, b.fails, b.left = f.code, f.fails, nil
		b.mu.Unlock()
		_, err := check(t, c, "")
		if status.Code(err) != f.want || len(b.left) != f.sends {
			t.Errorf("%+v: %v after %d calls", f, err, len(b.left))
		}
		for i := 1; i < len(b.left); i++ {
			if b.left[i] > b.left[i-1]-10*time.Millisecond {
				t.Errorf("the program had %s left, and then %s", b.left[i-1], b.left[i])
			}
		}
	}
	// A call whose answer has begun is not made again.
	b.mu.Lock()
	b.code, b.fails, b.left = codes.Unavailable, 1, nil
	b.mu.Unlock()
	stream, err := c.Watch(within(t), &grpc_health_v1.HealthCheckRequest{})
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unavailable || len(b.left) != 1 {
		t.Errorf("%v after %d calls, want UNAVAILABLE after one", err, len(b.left))
	}
}

// A stream's caller still sends when its answer is here.
func TestAStreamIsMadeAgainWithWhatItsCallerHasSent(t *testing.T) {
	w := newWorld(t)
	var asked atomic.Int64
	l := listen(t)
	echo := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		if asked.Add(1)%2 == 1 {
			return status.Error(codes.Unavailable, "busy")
		}
		for {
			m := &wrapperspb.StringValue{}
			if err := s.RecvMsg(m); err != nil {
				return nil
			}
			if err := s.SendMsg(m); err != nil {
				return err
			}
		}
	}))
	var serving sync.WaitGroup
	serving.Go(func() { _ = echo.Serve(l) })
	t.Cleanup(func() { echo.Stop(); serving.Wait() })
	addr := w.outbound(retrying(mesh.GRPC, map[string]mesh.Retry{"/": {Statuses: []string{"UNAVAILABLE"}, Attempts: 1}}, w.instance("east", "orders-1", l.Addr().String(), mesh.GRPC)))
	c, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for n := range 20 {
		s, err := c.NewStream(within(t), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/shop.Orders/Echo")
		for i := 0; err == nil && i < 5; i++ {
			got, want := &wrapperspb.StringValue{}, fmt.Sprint(n, i)
			if err = s.SendMsg(wrapperspb.String(want)); err == nil {
				if err = s.RecvMsg(got); err == nil && got.Value != want {
					t.Errorf("%q comes back as %q", want, got.Value)
				}
			}
		}
		if err != nil {
			t.Fatalf("stream %d: %v", n, err)
		}
		_ = s.CloseSend()
		_ = s.RecvMsg(&wrapperspb.StringValue{})
	}
	if n := asked.Load(); n != 40 {
		t.Errorf("20 streams were begun %d times", n)
	}
}
