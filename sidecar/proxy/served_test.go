package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestWhatIsServedChangesUnderOpenConnections holds that a port which is not served any more
// refuses new callers only, and serves again when it is back.
func TestWhatIsServedChangesUnderOpenConnections(t *testing.T) {
	w := newWorld(t)
	p, err := New(Config{Identity: w.mesh.Workload("east", orders.Namespace, orders.Name), Log: w.log, Inbound: &Inbound{Listen: "127.0.0.1:0", Changing: true}})
	if err != nil {
		t.Fatal(err)
	}
	w.run(p)
	addr := inboundAddr(p).String()
	if got, err := w.askSecurely(addr, "orders.shop.mesh"); err == nil {
		t.Errorf("nothing is served, and %q answered", got)
	}
	first := Served{Service: orders, Port: 80, Target: w.answering("orders"), Protocol: mesh.HTTP}
	second := Served{Service: orders, Port: 81, Target: w.answering("admin"), Protocol: mesh.HTTP}
	set := func(ports ...Served) {
		t.Helper()
		if err := p.SetServed(ports); err != nil {
			t.Fatal(err)
		}
	}
	set(first)
	conn, err := tls.Dial("tcp", addr, w.caller.ClientTLS("orders.shop.mesh", identity.AnyMember()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	answers := bufio.NewReader(conn)
	ask := func() string {
		t.Helper()
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: whoever\r\n\r\n")
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := ask(); got != "orders" {
		t.Errorf("answered %q", got)
	}
	set(first, second)
	if got, err := w.askSecurely(addr, "_81.orders.shop.mesh"); got != "admin" || err != nil {
		t.Errorf("a new port: %q, %v", got, err)
	}
	set(second)
	if got := ask(); got != "orders" {
		t.Errorf("the open connection is answered %q", got)
	}
	if got, err := w.askSecurely(addr, "_80.orders.shop.mesh"); err == nil {
		t.Errorf("a port that is not served any more answered %q", got)
	}
	set(first)
	if got, err := w.askSecurely(addr, "orders.shop.mesh"); got != "orders" || err != nil {
		t.Errorf("the port that is back: %q, %v", got, err)
	}
	set()
	if got, err := w.askSecurely(addr, "orders.shop.mesh"); err == nil {
		t.Errorf("nothing is served any more, and %q answered", got)
	}
	if got := ask(); got != "orders" {
		t.Errorf("the open connection is answered %q", got)
	}
	if len(p.programs()) != 2 {
		t.Errorf("%d ports are remembered", len(p.programs()))
	}
	if err := p.SetServed([]Served{first, first}); err == nil {
		t.Error("a port that is served twice was taken")
	}
}

func TestPortsThatComeAndGoAreBounded(t *testing.T) {
	w := newWorld(t)
	p, err := New(Config{Identity: w.mesh.Workload("east", orders.Namespace, orders.Name), Log: w.log, Inbound: &Inbound{Listen: "127.0.0.1:0", Changing: true}})
	if err != nil {
		t.Fatal(err)
	}
	w.run(p)
	for i := range 2 * maxEverServed {
		err := p.SetServed([]Served{{Service: orders, Port: uint16(i + 1), Target: "127.0.0.1:1", Protocol: mesh.TCP}})
		if (err != nil) != (i >= maxEverServed) {
			t.Fatalf("port %d: %v", i, err)
		}
	}
}
