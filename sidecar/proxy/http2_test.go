package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// h2Client speaks HTTP/2 with prior knowledge.
func h2Client(t testing.TB) *http.Client {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &p, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// echo answers with what it got, and trailers.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "X-Sum")
	w.Header().Set("X-Host", r.Host)
	w.Header().Set("X-Protocol", r.Proto)
	b, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Sent", r.Trailer.Get("X-After"))
	_, _ = w.Write(b)
	w.Header().Set("X-Sum", "42")
})

func TestAnHTTP2ClientIsServedByAnHTTP1Program(t *testing.T) {
	w := newWorld(t)
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", echo)))
	c := h2Client(t)
	for _, size := range []int{0, 1, 5000, 100_000, 3 << 20} {
		body := strings.Repeat("x", size)
		req := httptest.NewRequest("POST", "http://"+addr+"/a?b", io.MultiReader(strings.NewReader(body)))
		req.RequestURI = ""
		req.ContentLength = -1
		req.Trailer = http.Header{"X-After": {"late"}}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || string(got) != body {
			t.Fatalf("size %d: %d bytes, %v", size, len(got), err)
		}
		if resp.ProtoMajor != 2 || resp.Header.Get("X-Protocol") != "HTTP/1.1" || resp.Trailer.Get("X-Sum") != "42" || resp.Header.Get("X-Sent") != "late" {
			t.Errorf("size %d: %s, %v, %v", size, resp.Proto, resp.Header, resp.Trailer)
		}
	}
}
