package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestTheFirstLineSaysWhetherItIsHTTPHoweverItIsCut(t *testing.T) {
	for said, want := range map[string]bool{
		"GET / HTTP/1.1\r\n":                             true,
		"\r\n\n GET / HTTP/1.1\r\n":                      true,
		"get\t/\tHTTP/01.1 \r\n":                         true,
		"x " + strings.Repeat("a", 5000) + " http/1.1\n": true,
		"PRI * HTTP/2.0\r\n\r\n":                         true,
		"GET / HTTP/1.1":                                 false, // no end yet
		"GET key\r\nGET / HTTP/1.1\r\n":                  false,
		"GET / HTTP/\r\n":                                false,
		"GET / HTTP/1.1 x\r\n":                           false,
		"GET /HTTP/1.1\r\n":                              false,
		"220 ready\r\n":                                  false,
		"\x00\x01\n":                                     false,
	} {
		for _, step := range []int{1, 3, len(said)} {
			var l firstLine
			got := false
			for rest := said; len(rest) > 0; rest = rest[min(step, len(rest)):] {
				got = l.add([]byte(rest[:min(step, len(rest))])) || got
			}
			if got != want {
				t.Errorf("%.40q by %d: %v, want %v", said, step, got, want)
			}
		}
	}
}

// TestBytesOfAnAutoPortCarryNoIdentity: a caller that is taken for one that speaks no HTTP
// cannot tell a program that does who it is.
func TestBytesOfAnAutoPortCarryNoIdentity(t *testing.T) {
	w := newWorld(t)
	const claim = "spiffe://mesh.example/cluster/east/ns/shop/sa/admin"
	const rest = " / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-Client-Cert: URI=" + claim + "\r\n\r\n"
	connected, told := make(chan bool, 1), make(chan string, 1)
	program := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		told <- r.Header.Get("X-Forwarded-Client-Cert")
	}))
	program.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			select {
			case connected <- true:
			default:
			}
		}
	}
	program.Start()
	defer program.Close()
	ep := w.instance("east", "orders-1", program.Listener.Addr().String(), mesh.Auto)
	dial := func() net.Conn {
		c, err := tls.Dial("tcp", ep.Address, w.caller.ClientTLS(orders.Host(), identity.AnyMember()))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		return c
	}
	stream := func() net.Conn { return opened(t, shared(t, ep.Address, ztunnelTLS(w.caller)), "orders.shop.mesh:80") }
	for _, c := range []struct {
		name   string
		first  string // before the program has a connection
		then   string
		served bool
		dial   func() net.Conn
	}{
		{"says nothing until its bytes are relayed", "", "GET" + rest, true, dial},
		{"the same by CONNECT", "", "GET" + rest, true, stream},
		{"begins with half a method", "GE", "T" + rest, false, dial},
		{"begins with an empty line", "\r\nGET" + rest, "", true, dial},
		{"a method that is none", "get" + rest, "", true, dial},
		{"a method that is too long", strings.Repeat("A", maxMethod+1) + rest, "", true, dial},
		{"a target that is too long", "GET x:" + strings.Repeat("a", 2*maxSniffed) + rest, "", false, dial},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := c.dial()
			defer conn.Close()
			fmt.Fprint(conn, c.first)
			if c.then != "" {
				<-connected
				fmt.Fprint(conn, c.then)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if c.served != (err == nil && resp.StatusCode == 200) {
				t.Errorf("%v, %v; want served: %v", resp, err, c.served)
			}
			_, _ = io.Copy(io.Discard, conn)
			for drained := false; !drained; {
				select {
				case who := <-told:
					if strings.Contains(who, claim) || !strings.HasSuffix(who, w.caller.ID().String()) {
						t.Errorf("the program took the caller for %q", who)
					}
				case <-connected:
				default:
					drained = true
				}
			}
		})
	}
}
