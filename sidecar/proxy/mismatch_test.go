package proxy

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestAClientThatBeginsTLSGetsAnAlertAndItsOperatorOneLine(t *testing.T) {
	var log logged
	t.Run("served", func(t *testing.T) {
		w := newWorld(t)
		w.log = slog.New(slog.NewTextHandler(&log, nil))
		addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", http.NotFoundHandler())))
		for range 3 {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(c, "\x16\x03\x01\x02\x00\x01")
			_ = c.(*net.TCPConn).CloseWrite()
			const alert = "\x15\x03\x03\x00\x02\x02\x28" // fatal, handshake_failure
			if b, err := io.ReadAll(c); err != nil || string(b) != alert {
				t.Errorf("answered with %q, %v", b, err)
			}
			_ = c.Close()
		}
	})
	if n := strings.Count(log.String(), "declare protocol: tcp"); n != 1 || !strings.Contains(log.String(), "clients speak TLS") || !strings.Contains(log.String(), "level=INFO") {
		t.Errorf("%d lines that say what to declare, want 1: %s", n, log.String())
	}
}

func TestAPlainClientOfTheInboundPortIsToldSoInItsOwnProtocol(t *testing.T) {
	w := newWorld(t)
	addr := w.web("east", "orders-1", http.NotFoundHandler()).Address
	code, body := get(t, httpClient(t), "http://"+addr)
	if code != 400 || !strings.Contains(body, "takes the mesh's TLS") {
		t.Errorf("HTTP/1.1: %d %q", code, body)
	}
	const inadequateSecurity = "\x00\x00\x00\x0c"
	if said := answerTo(t, addr, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); !strings.Contains(said, inadequateSecurity+"this is a sidecar's inbound port") {
		t.Errorf("HTTP/2: %q", said)
	}
	if said := answerTo(t, addr, "no word that anybody knows\r\n"); strings.Contains(said, "HTTP") {
		t.Errorf("who speaks neither is answered with %q", said)
	}
}

// answerTo returns all that is answered to what a new connection says.
func answerTo(t *testing.T, addr, said string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, said)
	_ = c.(*net.TCPConn).CloseWrite()
	b, _ := io.ReadAll(c) // a reset behind the answer takes nothing of it away
	return string(b)
}
