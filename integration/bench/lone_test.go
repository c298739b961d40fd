package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

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
	var out bytes.Buffer
	if err := lone("100ms", server.URL+"/", &out); err != nil {
		t.Fatal(err)
	}
	l, err := parseLoad(out.String())
	if err != nil || l.p50 <= 0 || l.p99 < l.p50 || l.p99 > l.duration {
		t.Errorf("%+v, %v", l, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if l.requests != uint64(len(connections)) {
		t.Errorf("%d requests in %d connections", l.requests, len(connections))
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
		var out bytes.Buffer
		if err := lone("0s", server.URL+"/", &out); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, %q, want an error with %q", err, out.String(), says)
		}
		server.Close()
	}
}
