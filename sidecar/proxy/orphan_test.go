package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// pair returns both ends of a loopback connection.
func pair(t *testing.T, network, address string) (caller *net.TCPConn, accepted *client) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Skip(err) // no IPv6
	}
	defer l.Close()
	c, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = s.Close() })
	return c.(*net.TCPConn), &client{tracked: &tracked{conn: s}, Conn: s.(*net.TCPConn)}
}

func TestAClientThatSendsNoMoreIsThereUntilItCloses(t *testing.T) {
	for network, address := range map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"} {
		t.Run(network, func(t *testing.T) {
			caller, c := pair(t, network, address)
			if gone(c) {
				t.Error("gone, and it has just come")
			}
			_ = caller.CloseWrite()
			if _, err := io.ReadAll(c.Conn); err != nil { // the FIN is here
				t.Fatal(err)
			}
			if gone(c) {
				t.Error("gone after a half-close")
			}
			c.peer = "spiffe://mesh.example/x" // a sidecar closes in whole only
			if !gone(c) {
				t.Error("a sidecar that closed is there")
			}
			c.peer = ""
			_ = caller.Close()
			if !gone(c) {
				t.Error("there after it has closed")
			}
		})
	}
}

func TestAClientThatResetItsConnectionIsGone(t *testing.T) {
	for _, halfClosed := range []bool{false, true} {
		caller, c := pair(t, "tcp4", "127.0.0.1:0")
		if halfClosed {
			_ = caller.CloseWrite()
			_, _ = io.ReadAll(c.Conn)
		}
		_ = caller.SetLinger(0)
		_ = caller.Close()
		if !gone(c) {
			t.Errorf("there after a reset (half-closed before: %v)", halfClosed)
		}
	}
}

// Both clients say FIN while they wait for an answer that takes longer than we wait
// before we look: who half-closed gets it, who closed ends the request.
func TestAHalfCloseWaitsForTheAnswerAndACloseEndsTheRequest(t *testing.T) {
	w := newWorld(t)
	closed := make(chan struct{})
	addr := w.outbound(route(mesh.HTTP, plainAt("a", w.program(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/closed" {
			<-r.Context().Done()
			close(closed)
			return
		}
		<-closed // which began later and was looked after already
		fmt.Fprint(rw, "late")
	})))))
	half, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	fmt.Fprint(half, "GET /half HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	_ = half.(*net.TCPConn).CloseWrite()
	whole, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(whole, "GET /closed HTTP/1.1\r\nHost: a\r\n\r\n")
	_ = whole.Close()
	b, err := io.ReadAll(half)
	if err != nil || len(b) < 4 || string(b[len(b)-4:]) != "late" {
		t.Errorf("after a half-close: %q, %v", b, err)
	}
}
