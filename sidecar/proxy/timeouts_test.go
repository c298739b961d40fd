package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/exchange"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// bounded is outbound with timeouts.
func (w *world) bounded(r *mesh.Route, bounds exchange.Timeouts) string {
	w.t.Helper()
	set := upstream.New(upstream.Config{Identity: w.caller, Cluster: "east"})
	store := routes.NewStore(set.Update, nil)
	store.Replace([]*mesh.Route{r}, nil)
	w.t.Cleanup(set.Close)
	p, err := New(Config{Identity: w.caller, Routes: store, Upstreams: set, Log: w.log,
		Timeouts: func(mesh.Destination) exchange.Timeouts { return bounds },
		Explicit: []Explicit{{Listen: "127.0.0.1:0", Destination: dest}}})
	if err != nil {
		w.t.Fatal(err)
	}
	return explicitAddr(w.run(p)).String()
}

func TestARequestThatTakesTooLongIsAnsweredInTimeOrCut(t *testing.T) {
	w := newWorld(t)
	program := fakes(t, func(c *net.TCPConn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		switch r.URL.Path {
		case "/silent":
		case "/endless":
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for {
				if _, err := io.WriteString(c, "1\r\nx\r\n"); err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		}
		_, _ = c.Read(make([]byte, 1))
	})
	addr := w.bounded(route(mesh.HTTP, plainAt("a", program)), exchange.Timeouts{Request: 200 * time.Millisecond})
	if code, said := ask(t, addr+"/silent", "POST"); code != 504 || !strings.Contains(said, "http_response_timeout") {
		t.Errorf("%d %s; want 504", code, said)
	}
	resp, err := httpClient(t).Get("http://" + addr + "/endless")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("an endless answer ended well")
	}
	// An upload that does not come is the request's time, too.
	early, _, _ := raw(t, addr, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n", "POST")
	if early.StatusCode != 504 {
		t.Errorf("an upload that stands still: %d, want 504", early.StatusCode)
	}
}

func TestTheIdleTimeoutIsTheConfiguredOne(t *testing.T) {
	w := newWorld(t)
	slow := w.program(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(3 * time.Second):
			_, _ = io.WriteString(rw, "ok")
		}
	}))
	if code, said := ask(t, w.bounded(route(mesh.HTTP, plainAt("a", slow)), exchange.Timeouts{Idle: time.Millisecond}), "POST"); code != 504 {
		t.Errorf("%d %s; want 504", code, said)
	}
	if code, said := ask(t, w.bounded(route(mesh.HTTP, plainAt("a", slow)), exchange.Timeouts{}), "POST"); code != 200 {
		t.Errorf("without a bound: %d %s", code, said)
	}
	if got := exchange.DefaultTimeouts(); got != (exchange.Timeouts{Idle: 5 * time.Minute, Relay: time.Hour}) {
		t.Errorf("defaults %+v", got)
	}
}
