package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// saying is a program that reads each request in whole, counts it and says answer,
// then closes.
func saying(t *testing.T, hits *atomic.Int64, answer string) string {
	return fakes(t, func(c *net.TCPConn) {
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
			hits.Add(1)
			_, _ = io.WriteString(c, answer)
		}
	})
}

func ask(t *testing.T, addr, method string) (int, string) {
	t.Helper()
	req, _ := http.NewRequest(method, "http://"+addr, strings.NewReader("body"))
	resp, err := httpClient(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, fmt.Sprint(resp.Header.Values("Proxy-Status"), string(b))
}

func TestAProgramThatAnswersUnusablyIsAskedOnce(t *testing.T) {
	for name, answer := range map[string]string{
		"too many fields": "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 150) + "\r\n",
		"a large head":    "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 70<<10) + "\r\n\r\n",
		"a NUL":           "HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n",
		"two lengths":     "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"cut short":       "HTTP/1.1 200 OK\r\nConte",
		"an unasked 101":  "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
		"endless interim": strings.Repeat("HTTP/1.1 102 X\r\n\r\n", 20),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var hits atomic.Int64
			program := saying(t, &hits, answer)
			addr := w.outbound(route(mesh.HTTP, w.instance("east", "orders-1", program, mesh.HTTP), w.instance("east", "orders-2", program, mesh.HTTP)))
			if code, said := ask(t, addr, "PUT"); code != 502 || hits.Load() != 1 {
				t.Errorf("%d after %d requests: %s; want 502 after one", code, hits.Load(), said)
			}
		})
	}
}

// A plain service, and one behind a gateway that ends the mesh's TLS for it, may say
// what it likes.
func TestOnlyASidecarMaySayThatNobodySawTheRequest(t *testing.T) {
	const answer = "HTTP/1.1 503 Service Unavailable\r\nProxy-Status: isthmus-inbound; error=connection_refused; details=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
	w := newWorld(t)
	gateway := w.mesh.Gateway("west", "west-1")
	var hits atomic.Int64
	secured := fakes(t, func(c *net.TCPConn) {
		over := tls.Server(c, gateway.ServerTLS(identitytest.AnyWorkload(), "http/1.1"))
		if r, err := http.ReadRequest(bufio.NewReader(over)); err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
			hits.Add(1)
			_, _ = io.WriteString(over, answer)
			_ = over.Close()
		}
	})
	behind := plainAt("a", secured)
	behind.Identity = gateway.ID().String()
	plain := saying(t, &hits, answer)
	for name, r := range map[string]*mesh.Route{
		"plain":            route(mesh.HTTP, plainAt("a", plain), plainAt("b", plain)),
		"behind a gateway": route(mesh.HTTP, behind),
	} {
		for _, method := range []string{"POST", "PUT"} {
			t.Run(name+" "+method, func(t *testing.T) {
				hits.Store(0)
				if code, said := ask(t, w.outbound(r), method); code != 503 || hits.Load() != 1 {
					t.Errorf("%d after %d requests: %s; want its own 503 after one", code, hits.Load(), said)
				}
			})
		}
	}
}

func TestARequestThatCrashesProgramsMeetsTwoOfThemAtMostInOneCluster(t *testing.T) {
	const crash = ""
	w := newWorld(t)
	var east, west, single atomic.Int64
	inWest := func(name string) *mesh.Endpoint {
		far := w.instance("west", name, saying(t, &west, crash), mesh.HTTP)
		return &far
	}
	w1 := inWest("orders-1")
	gateways := func(far *mesh.Endpoint) []mesh.Endpoint {
		return []mesh.Endpoint{plainAt("east-1", newGateway(t, far.Address).addr), plainAt("east-2", newGateway(t, far.Address).addr)}
	}
	local := route(mesh.HTTP,
		w.instance("east", "orders-1", saying(t, &east, crash), mesh.HTTP),
		w.instance("east", "orders-2", saying(t, &east, crash), mesh.HTTP),
		w.instance("east", "orders-3", saying(t, &east, crash), mesh.HTTP))
	local.Identities = append(local.Identities, w1.Identity)
	local.Gateways = gateways(w1)
	if code, said := ask(t, w.outbound(local), "GET"); code != 502 || east.Load() != 2 || west.Load() != 0 {
		t.Errorf("%d after %d programs in east and %d in west: %s; want 502 after two in east", code, east.Load(), west.Load(), said)
	}
	far := &mesh.Route{Destination: dest, Protocol: mesh.HTTP, Identities: []string{w1.Identity}, Gateways: gateways(w1)}
	west.Store(0)
	if code, said := ask(t, w.outbound(far), "GET"); code != 502 || west.Load() != 2 {
		t.Errorf("%d after %d programs behind gateways: %s; want 502 after two", code, west.Load(), said)
	}
	alone := route(mesh.HTTP, w.instance("east", "orders-1", saying(t, &single, crash), mesh.HTTP))
	if code, said := ask(t, w.outbound(alone), "GET"); code != 502 || single.Load() > 2 {
		t.Errorf("%d after %d requests to the only one: %s; want 502 after two at most", code, single.Load(), said)
	}
}

// A sidecar that repeats a request itself, since the connection was a pooled one, says
// so: its caller's does not repeat it again.
func TestARequestIsRepeatedOnceEndToEnd(t *testing.T) {
	w := newWorld(t)
	var hits atomic.Int64
	// Serves POST on a connection that stays, and closes it on anything else.
	program := fakes(t, func(c *net.TCPConn) {
		br := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			if r.Method != "POST" {
				hits.Add(1)
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	addr := w.outbound(route(mesh.HTTP, w.instance("east", "orders-1", program, mesh.HTTP)))
	for range 8 { // the last one's connection may not be back in the pool yet when its answer is here
		if code, said := ask(t, addr, "POST"); code != 200 {
			t.Fatalf("%d %s", code, said)
		}
	}
	if code, said := ask(t, addr, "GET"); code != 502 || hits.Load() != 2 {
		t.Errorf("%d after %d requests: %s; want 502 after two", code, hits.Load(), said)
	}
}

// A program that ends closes the connections that it keeps, and the kernel resets those
// that it has not accepted: none of them has seen the request.
func TestARequestThatMeetsTheEndOfAProgramIsAskedElsewhere(t *testing.T) {
	w := newWorld(t)
	var resets atomic.Int64
	// Closes a connection at its second request, and then resets the next ones.
	ending := fakes(t, func(c *net.TCPConn) {
		br := bufio.NewReader(c)
		if resets.Load() == 0 {
			if r, err := http.ReadRequest(br); err != nil || r.Body.Close() != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			_, _ = br.Peek(1)
			resets.Add(1)
			return
		}
		_, _ = br.Peek(1)
		resets.Add(1)
		_ = c.SetLinger(0)
	})
	good := w.program(http.HandlerFunc(echoBody))
	for name, r := range map[string]*mesh.Route{
		"beside sidecars": route(mesh.HTTP, w.instance("east", "orders-1", ending, mesh.HTTP), w.instance("east", "orders-2", good, mesh.HTTP)),
		"plain":           route(mesh.HTTP, plainAt("a", ending), plainAt("b", good)),
	} {
		t.Run(name, func(t *testing.T) {
			resets.Store(0)
			addr := w.outbound(r)
			for n := 0; n < 64 || resets.Load() < 2 && n < 10_000; n++ { // whose first answer was slow is asked less
				if code, said := ask(t, addr, "GET"); code != 200 {
					t.Fatalf("%d: %s", code, said)
				}
			}
			if resets.Load() < 2 {
				t.Fatalf("%d connections ended: nothing was tested", resets.Load())
			}
		})
	}
}

// When a service is scaled to nothing, all its programs of a cluster end at once. The kernel resets
// the connections that they have not accepted, and from then on refuses.
func TestARequestThatMeetsTheEndOfEveryProgramOfAClusterIsServedByAnother(t *testing.T) {
	w := newWorld(t)
	var resets atomic.Int64
	var locals []mesh.Endpoint
	for i := range 6 {
		locals = append(locals, w.instance("east", fmt.Sprintf("orders-%d", i), endingAtOnce(t, &resets), mesh.HTTP))
	}
	far := w.web("west", "orders-1", http.HandlerFunc(echoBody))
	r := route(mesh.HTTP, locals...)
	r.Identities = append(r.Identities, far.Identity)
	r.Gateways = []mesh.Endpoint{plainAt("east-1", newGateway(t, far.Address).addr)}
	addr := w.outbound(r)
	for range 8 {
		if code, said := get(t, httpClient(t), "http://"+addr); code != 200 {
			t.Errorf("%d: %s", code, said)
		}
	}
	if resets.Load() < 2 {
		t.Errorf("%d connections were reset: nothing was tested", resets.Load())
	}
}

// endingAtOnce is a program that ends when it is first called: its kernel resets that connection and
// refuses the next.
func endingAtOnce(t *testing.T, resets *atomic.Int64) string {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}) // where nobody else takes the port
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.AcceptTCP()
		l.Close()
		if err != nil {
			return
		}
		_ = c.SetLinger(0)
		_, _ = c.Read(make([]byte, 1))
		resets.Add(1)
		c.Close()
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// The kernel resets the connection of a program that dies within a request, too.
func TestALongRequestThatCrashesProgramsMeetsTwoOfThemAtMost(t *testing.T) {
	w := newWorld(t)
	var hits atomic.Int64
	crashing := fakes(t, func(c *net.TCPConn) {
		br := bufio.NewReader(c)
		if _, err := http.ReadRequest(br); err == nil {
			_, _ = io.CopyN(io.Discard, br, 1<<10)
			hits.Add(1)
			_ = c.SetLinger(0)
		}
	})
	var locals []mesh.Endpoint
	for i := range 3 {
		locals = append(locals, w.instance("east", fmt.Sprintf("orders-%d", i), crashing, mesh.HTTP))
	}
	req, _ := http.NewRequest("PUT", "http://"+w.outbound(route(mesh.HTTP, locals...)), strings.NewReader(strings.Repeat("x", 60<<10)))
	resp, err := httpClient(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 502 || hits.Load() != 2 {
		t.Errorf("%d after %d programs; want 502 after two", resp.StatusCode, hits.Load())
	}
}
