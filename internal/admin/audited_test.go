package admin

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/audit"
)

func TestWhatChangesSomethingAndWhoIsRefusedIsAudited(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.json")
	log, err := audit.Open(path, false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	pages := audited(log, fromHere(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	for _, r := range []struct{ method, url string }{
		{"GET", "http://localhost:15000/status"},
		{"POST", "http://localhost:15000/forget?name=west-1"},
		{"GET", "http://rebound.example:15000/status"},
	} {
		pages.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(r.method, r.url, nil))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := log.Run(ctx); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"decision":"granted"`) || !strings.Contains(lines[0], "/forget?name=west-1") ||
		!strings.Contains(lines[1], `"decision":"refused"`) || !strings.Contains(lines[1], "rebound.example") {
		t.Errorf("the stream has %s", b)
	}
}
