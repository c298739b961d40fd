package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/status"
)

func TestAReloadAtTheAdminPortAnswersWithItsVerdictAndIsRemembered(t *testing.T) {
	var changed, restart []string
	var fault error
	r := NewReloader(nil, func(context.Context) ([]string, []string, error) { return changed, restart, fault })
	if r.Last() != nil {
		t.Error("a verdict before any reload")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{
		Ports: Ports{Admin: l}, Readiness: &Readiness{}, Metrics: prometheus.NewRegistry(), Reload: r, Log: slog.New(slog.DiscardHandler),
		Status: func() any { return nil },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	for _, c := range []struct {
		changed, restart []string
		fault            error
		ok               bool
		want             string
	}{
		{want: "reloaded: nothing has changed", ok: true},
		{changed: []string{"upstreams", "drain"}, want: "reloaded: upstreams, drain", ok: true},
		{changed: []string{"drain"}, restart: []string{"listen.admin"}, want: "reloaded: drain; these keys wait for a restart: listen.admin"},
		{fault: errors.New("a.yaml:3: no"), want: "not reloaded, the old configuration stays in force: a.yaml:3: no"},
	} {
		changed, restart, fault = c.changed, c.restart, c.fault
		got, err := status.AskReload(t.Context(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if got.String() != c.want || got.OK() != c.ok || r.Last().String() != c.want {
			t.Errorf("%q, OK %v, want %q", got, got.OK(), c.want)
		}
	}
}

func TestAProcessThatCannotReloadSaysSo(t *testing.T) {
	base := start(t, &Readiness{})
	_, err := status.AskReload(t.Context(), strings.TrimPrefix(base, "http://"))
	if err == nil || !strings.Contains(err.Error(), "cannot reload") {
		t.Error(err)
	}
}
