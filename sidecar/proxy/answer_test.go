package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// logged keeps what was logged. It may be written and read concurrently.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A caller may be anybody's browser behind a program that passes our answer on.
func TestAnAnswerOfTheMeshShowsNoInnerAddress(t *testing.T) {
	answers := func(answer string) string {
		return fakes(t, func(c *net.TCPConn) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.WriteString(c, answer)
			}
		})
	}
	for name, c := range map[string]struct {
		route func(w *world) *mesh.Route
		want  int
	}{
		"refused":         {func(w *world) *mesh.Route { return route(mesh.HTTP, plainAt("a", w.refusing())) }, 502},
		"refused beside":  {func(w *world) *mesh.Route { return route(mesh.HTTP, w.instance("east", "a", w.refusing(), mesh.HTTP)) }, 502},
		"gateway refused": {func(w *world) *mesh.Route { return viaGateway(w.refusing()) }, 502},
		"gateway is none": {func(*world) *mesh.Route { return viaGateway(answers("SSH-2.0-OpenSSH\r\n")) }, 502},
		"closed":          {func(*world) *mesh.Route { return route(mesh.HTTP, plainAt("a", answers(""))) }, 502},
		"cut in its head": {func(*world) *mesh.Route { return route(mesh.HTTP, plainAt("a", answers("HTTP/1.1 200"))) }, 502},
		"malformed head":  {func(*world) *mesh.Route { return route(mesh.HTTP, plainAt("a", answers("HTTP/1.1 200\nA: b\n\n"))) }, 502},
		"malformed body": {func(*world) *mesh.Route {
			return route(mesh.HTTP, plainAt("a", answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")))
		}, 502},
		"malformed beside": {func(w *world) *mesh.Route {
			return route(mesh.HTTP, w.instance("east", "a", answers("HTTP/1.1 200\nA: b\n\n"), mesh.HTTP))
		}, 502},
		"closed beside": {func(w *world) *mesh.Route { return route(mesh.HTTP, w.instance("east", "a", answers(""), mesh.HTTP)) }, 502},
		"101 without a wish": {func(*world) *mesh.Route {
			return route(mesh.HTTP, plainAt("a", answers("HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")))
		}, 502},
		"endless in between": {func(*world) *mesh.Route {
			return route(mesh.HTTP, plainAt("a", answers(strings.Repeat("HTTP/1.1 102 X\r\n\r\n", 17))))
		}, 502},
		"TLS without a reason": {func(*world) *mesh.Route {
			e := plainAt("a", answers(""))
			e.Identity = "spiffe://mesh.example/x"
			return route(mesh.HTTP, e)
		}, 502},
	} {
		t.Run(name, func(t *testing.T) {
			var log logged
			t.Cleanup(func() { // once the proxies have ended: the line is written after the answer
				if _, exchanges, _ := strings.Cut(log.String(), "msg=request"); !strings.Contains(exchanges, "127.0.0.1") {
					t.Errorf("the log names nobody: %s", log.String())
				}
			})
			w := newWorld(t)
			w.log = slog.New(slog.NewTextHandler(&log, nil))
			addr := w.outbound(c.route(w))
			client := httpClient(t)
			resp, err := client.Post("http://"+addr, "text/plain", strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			said := fmt.Sprint(resp.Header.Values("Proxy-Status"), " ", string(body))
			if resp.StatusCode != c.want || !strings.Contains(said, "error=") || strings.Contains(said, "127.0.0.1") {
				t.Errorf("%d %s; want %d without an address", resp.StatusCode, said, c.want)
			}
		})
	}
}

func viaGateway(addr string) *mesh.Route {
	return &mesh.Route{Destination: dest, Protocol: mesh.HTTP, Gateways: []mesh.Endpoint{plainAt("east-1", addr)}}
}
