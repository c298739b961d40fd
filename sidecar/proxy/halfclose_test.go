package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

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
