package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func plainAt(name, addr string) mesh.Endpoint {
	return mesh.Endpoint{Instance: name, Address: addr, Ready: true, Weight: 1}
}

func echoBody(rw http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	fmt.Fprintf(rw, "%s %s", r.Method, b)
}

func TestWhatReachedNobodyIsRetriedWhateverItIs(t *testing.T) {
	w := newWorld(t)
	good := w.program(http.HandlerFunc(echoBody))
	addr := w.outbound(route(mesh.HTTP, plainAt("a", w.refusing()), plainAt("b", good), plainAt("c", w.refusing())))
	c := httpClient(t)
	for i := range 20 {
		resp, err := c.Post("http://"+addr, "a/b", strings.NewReader(fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(b) != fmt.Sprintf("POST %d", i) {
			t.Fatalf("%d %q", resp.StatusCode, b)
		}
	}
}

// dying is a program that reads each request in whole and dies instead of answering.
func dying(t *testing.T, hits *atomic.Int64) string {
	return fake(t, func(_ int, c *net.TCPConn) {
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
			hits.Add(1)
		}
	})
}

func TestADeathBeforeTheAnswerIsRetriedWhenIdempotent(t *testing.T) {
	w := newWorld(t)
	var hits atomic.Int64
	good := w.program(http.HandlerFunc(echoBody))
	addr := w.outbound(route(mesh.HTTP, plainAt("a", dying(t, &hits)), plainAt("b", good)))
	c := httpClient(t)
	// Bodies that come with the head, behind it, and chunked.
	for _, body := range []string{"", "small", strings.Repeat("m", 40<<10)} {
		for range 8 {
			req, _ := http.NewRequest("PUT", "http://"+addr, struct{ io.Reader }{strings.NewReader(body)})
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(b) != "PUT "+body {
				t.Fatalf("%d, %d bytes; want the echo of %d", resp.StatusCode, len(b), len(body))
			}
		}
	}
	if hits.Load() == 0 {
		t.Error("the dying program was never asked: nothing was tested")
	}
}

func TestADeathBeforeTheAnswerIsNotRetriedWhenItMayHaveDoneSomething(t *testing.T) {
	w := newWorld(t)
	var hits atomic.Int64
	addr := w.outbound(route(mesh.HTTP, plainAt("a", dying(t, &hits)), plainAt("b", dying(t, &hits))))
	c := httpClient(t)
	resp, err := c.Post("http://"+addr, "a/b", strings.NewReader("order"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 502 || hits.Load() != 1 {
		t.Errorf("%d after %d sends, want 502 after one", resp.StatusCode, hits.Load())
	}
	if s := resp.Header.Get("Proxy-Status"); !strings.HasPrefix(s, "isthmus-outbound; error=connection_terminated; details=") {
		t.Errorf("Proxy-Status is %q", s)
	}
}

func TestAnIdempotentRequestIsSentTwiceAtMost(t *testing.T) {
	w := newWorld(t)
	var hits atomic.Int64
	addr := w.outbound(route(mesh.HTTP, plainAt("a", dying(t, &hits)), plainAt("b", dying(t, &hits)), plainAt("c", dying(t, &hits))))
	if code, _ := get(t, httpClient(t), "http://"+addr); code != 502 || hits.Load() != 2 {
		t.Errorf("%d after %d sends, want 502 after 2", code, hits.Load())
	}
}

func TestALargeUploadIsNotReplayedFromItsMiddle(t *testing.T) {
	w := newWorld(t)
	var hits atomic.Int64
	addr := w.outbound(route(mesh.HTTP, plainAt("a", dying(t, &hits)), plainAt("b", dying(t, &hits))))
	req, _ := http.NewRequest("PUT", "http://"+addr, &pattern{left: 1 << 20})
	resp, err := httpClient(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 502 || hits.Load() != 1 {
		t.Errorf("%d after %d sends, want 502 after one", resp.StatusCode, hits.Load())
	}
}

func TestNothingIsRetriedOnceBytesWentDown(t *testing.T) {
	w := newWorld(t)
	var hits atomic.Int64
	half := func() string {
		return fake(t, func(_ int, c *net.TCPConn) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				hits.Add(1)
				fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
			}
		})
	}
	addr := w.outbound(route(mesh.HTTP, plainAt("a", half()), plainAt("b", half())))
	resp, err := httpClient(t).Get("http://" + addr)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil || hits.Load() != 1 {
		t.Errorf("%v after %d sends; want an error after one", err, hits.Load())
	}
}

func TestAProgramThatIsGoneBehindItsSidecarIsPassedOver(t *testing.T) {
	w := newWorld(t)
	dead := w.instance("east", "orders-1", w.refusing(), mesh.HTTP)
	live := w.web("east", "orders-2", http.HandlerFunc(echoBody))
	addr := w.outbound(route(mesh.HTTP, dead, live))
	c := httpClient(t)
	for range 10 {
		if code, b := get(t, c, "http://"+addr); code != 200 {
			t.Fatalf("GET: %d %s", code, b)
		}
		// The far sidecar says that its program was not reached: so even a POST.
		resp, err := c.Post("http://"+addr, "a/b", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(b) != "POST x" {
			t.Fatalf("POST: %d %s", resp.StatusCode, b)
		}
	}
}

func TestAnApplicationsOwn503IsItsAnswer(t *testing.T) {
	w := newWorld(t)
	var hits atomic.Int64
	busy := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		// As if it passed on what its own call met.
		rw.Header().Set("Proxy-Status", `isthmus-inbound; error=connection_refused; details="x"`)
		rw.WriteHeader(503)
	})
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", busy), w.web("east", "orders-2", busy)))
	resp, err := httpClient(t).Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 503 || hits.Load() != 1 {
		t.Errorf("%d after %d sends, want the first 503", resp.StatusCode, hits.Load())
	}
	if s := resp.Header.Values("Proxy-Status"); len(s) != 3 || s[1] != "isthmus-inbound" || s[2] != "isthmus-outbound" {
		t.Errorf("Proxy-Status is %q, want the application's and every sidecar's", s)
	}
}

func TestAPooledConnectionThatDiedIsReplaced(t *testing.T) {
	w := newWorld(t)
	var conns atomic.Int64
	// Each connection serves one exchange, says that it stays, and closes when the
	// next request arrives: the worst moment.
	l := listen(t)
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			go func() {
				defer c.Close()
				br := bufio.NewReader(c)
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				_, _ = http.ReadRequest(br)
			}()
		}
	}()
	addr := w.outbound(route(mesh.HTTP, plainAt("a", l.Addr().String())))
	c := httpClient(t)
	for i := range 6 {
		if code, b := get(t, c, "http://"+addr); code != 200 {
			t.Fatalf("request %d: %d %s", i, code, b)
		}
	}
	if conns.Load() != 6 {
		t.Errorf("%d connections for 6 requests", conns.Load())
	}
}

func TestAPathThatDiesIsTriedAgainAtOnceThroughTheOtherGateway(t *testing.T) {
	w := newWorld(t)
	far := w.web("west", "orders-1", http.HandlerFunc(echoBody))
	g1, g2 := newGateway(t, far.Address), newGateway(t, far.Address)
	r := &mesh.Route{Destination: dest, Protocol: mesh.HTTP, Identities: []string{far.Identity}, Gateways: []mesh.Endpoint{
		{Instance: "east-1", Address: g1.addr, Ready: true, Weight: 1},
		{Instance: "east-2", Address: g2.addr, Ready: true, Weight: 1},
	}}
	addr := w.outbound(r)
	c := httpClient(t)
	for range 4 {
		if code, b := get(t, c, "http://"+addr); code != 200 || b != "GET " {
			t.Fatalf("%d %q", code, b)
		}
	}
	// Freeze the first: requests on it hang until the lower layers end the paths.
	g1.freeze()
	results := make(chan string)
	const n = 6
	for range n {
		go func() {
			resp, err := http.Get("http://" + addr)
			if err != nil {
				results <- err.Error()
				return
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			results <- string(b)
		}()
	}
	// As the gateways do: existing paths end, new ones go elsewhere.
	cut := time.AfterFunc(200*time.Millisecond, func() { g1.cut(); g1.thaw() })
	defer cut.Stop()
	for range n {
		if got := <-results; got != "GET " {
			t.Errorf("got %q", got)
		}
	}
	// A refusal is as good a reason.
	g2.refuse.Store(true)
	if code, b := get(t, c, "http://"+addr); code != 200 {
		t.Errorf("%d %s", code, b)
	}
}

func TestWithNobodyToAskTheAnswerSaysWhy(t *testing.T) {
	w := newWorld(t)
	addr := w.outbound(route(mesh.HTTP))
	resp, err := httpClient(t).Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if s := resp.Header.Get("Proxy-Status"); resp.StatusCode != 503 || !strings.HasPrefix(s, "isthmus-outbound; error=destination_unavailable; details=") {
		t.Errorf("%d, Proxy-Status %q", resp.StatusCode, s)
	}
	far := newGateway(t, "127.0.0.1:1")
	far.refuse.Store(true)
	addr = w.outbound(&mesh.Route{Destination: dest, Protocol: mesh.HTTP, Gateways: []mesh.Endpoint{{Instance: "east-1", Address: far.addr, Ready: true, Weight: 1}}})
	code, body := get(t, httpClient(t), "http://"+addr)
	if code != 503 || !strings.Contains(body, "no reachable cluster") {
		t.Errorf("%d %s; want what the gateway said", code, body)
	}
}

// frozen is a program that takes requests and answers none until the test ends.
func frozen(t *testing.T, taken *atomic.Int64) string {
	return fakes(t, func(c *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			taken.Add(1)
			_, _ = c.Read(make([]byte, 1))
		}
	})
}

func TestWhatWaitsForAHostThatWentOutOfServiceIsAskedElsewhere(t *testing.T) {
	w := newWorld(t)
	for name, after := range map[string]func(live, hung mesh.Endpoint) *mesh.Route{
		"taken away": func(live, _ mesh.Endpoint) *mesh.Route { return route(mesh.HTTP, live) },
		"unready": func(live, hung mesh.Endpoint) *mesh.Route {
			hung.Ready = false
			return route(mesh.HTTP, live, hung)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var taken atomic.Int64
			hung, live := plainAt("a", frozen(t, &taken)), plainAt("b", w.program(http.HandlerFunc(echoBody)))
			p := w.outboundProxy(route(mesh.HTTP, hung))
			c := httpClient(t)
			answers := make(chan string, 3)
			ctx, cancel := context.WithCancel(t.Context())
			var asking sync.WaitGroup
			defer asking.Wait()
			defer cancel()
			ask := func(method string, body io.Reader) {
				asking.Go(func() {
					req, _ := http.NewRequestWithContext(ctx, method, "http://"+explicitAddr(p).String(), body)
					resp, err := c.Do(req)
					if err != nil {
						answers <- method + " failed"
						return
					}
					defer resp.Body.Close()
					b, _ := io.ReadAll(resp.Body)
					answers <- string(b)
				})
			}
			ask("POST", strings.NewReader("order"))
			ask("GET", nil)
			ask("PUT", struct{ io.Reader }{strings.NewReader("state")})
			for taken.Load() < 3 {
				time.Sleep(time.Millisecond)
			}
			p.cfg.Upstreams.Update([]*mesh.Route{after(live, hung)})
			got := []string{<-answers, <-answers}
			slices.Sort(got)
			if want := []string{"GET ", "PUT state"}; !slices.Equal(got, want) {
				t.Errorf("answers %q, want %q and the POST to wait", got, want)
			}
		})
	}
}
