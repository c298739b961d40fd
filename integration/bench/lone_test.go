package main

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/bench/load"
)

func loneOptions(s *httptest.Server, d time.Duration) load.Options {
	return load.Options{Address: netip.MustParseAddrPort(s.Listener.Addr().String()), Authority: "orders.shop.mesh", Duration: d, Timeout: loadTimeout}
}

func TestLoneRequestsHaveAConnectionEach(t *testing.T) {
	var mu sync.Mutex
	connections := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		connections[r.RemoteAddr] = true
		mu.Unlock()
		_, _ = w.Write([]byte(body))
	}))
	defer server.Close()
	l, err := lone(loneOptions(server, 100*time.Millisecond))
	if err != nil || l.P50 <= 0 || l.P99 < l.P50 || l.P99 > l.Duration {
		t.Errorf("%+v, %v", l, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if l.Requests != uint64(len(connections)) {
		t.Errorf("%d requests in %d connections", l.Requests, len(connections))
	}
}

func TestALoneRequestWithAnotherAnswerIsAnError(t *testing.T) {
	for says, handler := range map[string]http.HandlerFunc{
		"answered":   func(w http.ResponseWriter, _ *http.Request) { http.Error(w, body, http.StatusBadGateway) },
		"want 200":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("another body")) },
		"it goes on": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(strings.Repeat(body, 4))) },
		"0 bytes":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		server := httptest.NewServer(handler)
		if l, err := lone(loneOptions(server, 0)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v, %v, want an error with %q", l, err, says)
		}
		server.Close()
	}
}
