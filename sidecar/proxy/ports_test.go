package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// answering is a program that answers every request with a word.
func (w *world) answering(word string) string {
	return w.program(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, word) }))
}

// askSecurely asks the sidecar at addr for what a server name says.
func (w *world) askSecurely(addr, name string) (string, error) {
	conn, err := tls.Dial("tcp", addr, w.caller.ClientTLS(name, identity.AnyMember()))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: whoever\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// TestOneListenerServesEachPortOfEachServiceByTheServerName holds that whoever names a
// port gets its program, and nobody another's.
func TestOneListenerServesEachPortOfEachServiceByTheServerName(t *testing.T) {
	w := newWorld(t)
	stock := mesh.ServiceName{Namespace: "shop", Name: "stock"}
	p, err := New(Config{Identity: w.mesh.Workload("east", orders.Namespace, orders.Name), Log: w.log, Inbound: &Inbound{
		Listen: "127.0.0.1:0", Ports: []Served{
			{Service: orders, Port: 9000, Target: w.answering("admin"), Protocol: mesh.HTTP},
			{Service: orders, Port: 80, Target: w.answering("orders"), Protocol: mesh.HTTP},
			{Service: stock, Port: 80, Target: w.answering("stock"), Protocol: mesh.HTTP},
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.run(p)
	addr := inboundAddr(p).String()
	for name, want := range map[string]string{
		"orders.shop.mesh":            "orders",
		"_80.orders.shop.mesh":        "orders",
		"_9000.orders.shop.mesh":      "admin",
		"_9000.orders.shop.east.mesh": "admin",
		"stock.shop.mesh":             "stock",
	} {
		if got, err := w.askSecurely(addr, name); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"_81.orders.shop.mesh", "_9000.stock.shop.mesh", "cart.shop.mesh", "orders.example"} {
		if got, err := w.askSecurely(addr, name); err == nil {
			t.Errorf("%s is answered with %q", name, got)
		}
	}
}

func TestPortsThatAreServedTwiceAreRefused(t *testing.T) {
	w := newWorld(t)
	port := Served{Service: orders, Port: 80, Target: "127.0.0.1:1", Protocol: mesh.TCP}
	for name, ports := range map[string][]Served{"none": nil, "twice": {port, port}} {
		_, err := New(Config{Identity: w.caller, Inbound: &Inbound{Listen: "127.0.0.1:0", Ports: ports}})
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestCallersOfAProgramsOwnPortReachThatPort: the local address of a connection that
// interception steers is where its caller wanted to go.
func TestCallersOfAProgramsOwnPortReachThatPort(t *testing.T) {
	w := newWorld(t)
	at := listen(t) // the steered listener's address, with the port of one program
	_, port, _ := net.SplitHostPort(at.Addr().String())
	_ = at.Close()
	other, err := net.Listen("tcp", net.JoinHostPort("127.0.0.2", port))
	if err != nil {
		t.Fatal("another program took the port: ", err)
	}
	program := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "the second") })}
	served := make(chan error, 1)
	go func() { served <- program.Serve(other) }()
	t.Cleanup(func() { program.Close(); <-served })
	p, err := New(Config{Identity: w.mesh.Workload("east", orders.Namespace, orders.Name), Log: w.log, Inbound: &Inbound{
		Listen: "127.0.0.1:0", Ports: []Served{
			{Service: orders, Port: 80, Target: w.answering("the first"), Protocol: mesh.HTTP},
			{Service: orders, Port: 81, Target: other.Addr().String(), Protocol: mesh.HTTP},
		},
		Steered: &Steered{Listen: []string{at.Addr().String()}, Permissive: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.run(p)
	if _, got := get(t, httpClient(t), "http://"+at.Addr().String()); got != "the second" {
		t.Errorf("answered by %q", got)
	}
}
