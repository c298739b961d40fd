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
	if _, err := http2Client(t, plainTo(addr)).Get("http://orders.shop.mesh/"); err == nil || !strings.Contains(err.Error(), "INADEQUATE_SECURITY") {
		t.Errorf("HTTP/2: %v", err)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "no word that anybody knows\r\n")
	if b, _ := io.ReadAll(c); strings.Contains(string(b), "HTTP") {
		t.Errorf("who speaks neither is answered with %q", b)
	}
}
