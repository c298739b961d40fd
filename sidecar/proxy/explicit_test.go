package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/osuser"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// saying is a program that answers with one word.
func (w *world) saying(word string) string {
	return w.program(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, word) }))
}

func TestExplicitListenersComeAndGoWhileOthersServe(t *testing.T) {
	w := newWorld(t)
	other := mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "cart"}, Port: 80}
	toCart := route(mesh.HTTP, plainAt("c", w.saying("cart")))
	toCart.Destination = other
	set := upstream.New(upstream.Config{Identity: w.caller, Cluster: "east"})
	t.Cleanup(set.Close)
	store := routes.NewStore(set.Update, nil)
	store.Replace([]*mesh.Route{toCart, route(mesh.HTTP, plainAt("o", w.saying("orders")))}, nil)
	one, two, taken := w.refusing(), w.refusing(), listen(t).Addr().String()
	p, err := New(Config{Routes: store, Upstreams: set, Log: w.log, Explicit: []Explicit{{Listen: one, Destination: dest}}})
	if err != nil {
		t.Fatal(err)
	}
	w.run(p)
	c := httpClient(t)
	asks := func(addr, want string) {
		t.Helper()
		if code, body := get(t, c, "http://"+addr); code != 200 || body != want {
			t.Errorf("%s answers %d %q, want %q", addr, code, body, want)
		}
	}
	asks(one, "orders")

	err = p.SetExplicit(t.Context(), []Explicit{{Listen: two, Destination: other}, {Listen: taken, Destination: other}})
	if err == nil || !strings.Contains(err.Error(), taken) {
		t.Errorf("an address that is taken: %v", err)
	}
	asks(one, "orders")
	if c, err := net.Dial("tcp", two); err == nil {
		_ = c.Close()
		t.Error("a change that was refused left a listener open")
	}

	if err := p.SetExplicit(t.Context(), []Explicit{{Listen: one, Destination: dest}, {Listen: two, Destination: other}}); err != nil {
		t.Fatal(err)
	}
	asks(one, "orders")
	asks(two, "cart")

	held, err := net.Dial("tcp", one)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := p.SetExplicit(t.Context(), []Explicit{{Listen: two, Destination: dest}}); err != nil {
		t.Fatal(err)
	}
	c.CloseIdleConnections()
	asks(two, "orders")
	fmt.Fprint(held, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	if b, err := io.ReadAll(held); err != nil || !strings.HasSuffix(string(b), "\r\n\r\norders") {
		t.Errorf("a connection to a listener that went: %q, %v", b, err)
	}
}

func TestADrainOfCallersLeavesTheProgramsOwnConnections(t *testing.T) {
	w := newWorld(t)
	far := w.instance("east", "far-1", w.saying("far"), mesh.HTTP)
	set := upstream.New(upstream.Config{Identity: w.caller, Cluster: "east"})
	t.Cleanup(set.Close)
	store := routes.NewStore(set.Update, nil)
	store.Replace([]*mesh.Route{route(mesh.HTTP, far)}, nil)
	var outboundAddr string
	c := httpClient(t)
	called, drained := make(chan struct{}), make(chan struct{})
	program := w.program(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		close(called)
		<-drained // the drain has begun
		resp, err := c.Get("http://" + outboundAddr)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		_, _ = io.Copy(rw, resp.Body)
	}))
	p, err := New(Config{
		Identity: w.mesh.Workload("east", orders.Namespace, orders.Name), Routes: store, Upstreams: set, Log: w.log,
		Explicit: []Explicit{{Listen: "127.0.0.1:0", Destination: dest}},
		Inbound:  &Inbound{Listen: "127.0.0.1:0", Ports: []Served{{Service: orders, Port: dest.Port, Target: program, Protocol: mesh.HTTP}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.run(p)
	outboundAddr = explicitAddr(p).String()
	ep := mesh.Endpoint{Instance: "a", Address: inboundAddr(p).String(), Ready: true, Weight: 1, Identity: p.cfg.Identity.ID().String()}
	caller := w.outbound(route(mesh.HTTP, ep))
	got := make(chan string, 1)
	go func() {
		_, body := get(t, c, "http://"+caller)
		got <- body
	}()
	<-called
	ended := make(chan error, 1)
	go func() { ended <- p.ShutdownInbound(t.Context()) }()
	for !p.conns[inbound].Draining() {
		select {
		case err := <-ended:
			t.Fatalf("the drain ended before the request: %v", err)
		default:
		}
	}
	close(drained)
	if body := <-got; body != "far" {
		t.Errorf("a request in flight that calls another service: %q", body)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if code, body := get(t, c, "http://"+outboundAddr); code != 200 || body != "far" {
		t.Errorf("afterwards: %d %q", code, body)
	}
}

func TestAListenerOfAUserServesItsProgramsOnly(t *testing.T) {
	w := newWorld(t)
	set := upstream.New(upstream.Config{Identity: w.caller, Cluster: "east"})
	t.Cleanup(set.Close)
	store := routes.NewStore(set.Update, nil)
	store.Replace([]*mesh.Route{route(mesh.HTTP, plainAt("o", w.saying("orders")))}, nil)
	mine, others := w.refusing(), w.refusing()
	p, err := New(Config{Routes: store, Upstreams: set, Log: w.log, Explicit: []Explicit{
		{Listen: mine, Destination: dest, User: &osuser.User{Name: "me", UID: uint32(os.Getuid())}},
		{Listen: others, Destination: dest, User: &osuser.User{Name: "somebody", UID: uint32(os.Getuid()) + 1}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.run(p)
	c := httpClient(t)
	if code, body := get(t, c, "http://"+mine); code != 200 || body != "orders" {
		t.Errorf("my own listener answers %d %q", code, body)
	}
	if code, body := get(t, c, "http://"+others); code != 403 || !strings.Contains(body, `"somebody"`) {
		t.Errorf("another's listener answers %d %q, want 403 and whose it is", code, body)
	}
}
