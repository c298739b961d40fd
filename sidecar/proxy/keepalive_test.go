package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestAProgramThatSaysItStaysAndClosesAtOnceCostsNoRequest(t *testing.T) {
	w := newWorld(t)
	var served atomic.Int64
	addr := w.outbound(route(mesh.HTTP, w.instance("east", "orders-1", fakes(t, func(c *net.TCPConn) {
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
			served.Add(1)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}), mesh.HTTP)))
	c := httpClient(t)
	const n = 300
	for i := range n {
		resp, err := c.Post("http://"+addr, "a/b", strings.NewReader("order"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Fatalf("request %d: %d", i, resp.StatusCode)
		}
	}
	if served.Load() != n {
		t.Errorf("%d of %d requests were served", served.Load(), n)
	}
}
