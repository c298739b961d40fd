package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

func lone(t *testing.T) *config.Gateway {
	t.Helper()
	cfg := &config.Gateway{
		Cluster: "east", Name: "east-1", Advertise: "127.0.0.1:7443", MeshAddress: "127.0.0.1:15443",
		State: t.TempDir(), Drain: time.Second, Connections: 1,
	}
	for _, a := range []*string{&cfg.Listen.Tunnel, &cfg.Listen.Mesh, &cfg.Listen.XDS, &cfg.Listen.Admin} {
		*a = "127.0.0.1:0"
	}
	return cfg
}

func TestAGatewayMayBeToldToStopBeforeItHasStarted(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	for _, after := range []time.Duration{0, time.Millisecond, 10 * time.Millisecond} {
		g, err := New(lone(t), Options{Log: slog.New(slog.DiscardHandler), Identity: m.Gateway("east", "east-1")})
		if err != nil {
			t.Fatal(err)
		}
		if after == 0 {
			if err := g.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- g.Run(ctx) }()
		time.Sleep(after)
		draining, stop := context.WithTimeout(t.Context(), 5*time.Second)
		_ = g.Shutdown(draining) // whatever it finds, it must not crash or hang
		stop()
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("stopped after %s: %v", after, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("stopped after %s: Run does not return", after)
		}
	}
}

func TestWhatTheConfigurationAllowsTheTunnelTakes(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	for n := 1; n < 100; n++ {
		if err := os.WriteFile(path, fmt.Appendf(nil, "{cluster: east, name: east-1, advertise: east-1, connections: %d}", n), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := config.LoadGateway(path, nil)
		if err != nil {
			return // the first that is not allowed
		}
		_, err = tunnel.New(tunnel.Config{
			Self: cfg.ID(), Identity: m.Gateway("east", "east-1"), Connections: cfg.Connections, Listen: tunnel.ListenUDP("127.0.0.1:0"),
		})
		if err != nil {
			t.Errorf("isthmus check finds nothing wrong with connections: %d, but: %v", n, err)
		}
	}
}

func TestAGatewayThatCannotStartGivesItsPortsBack(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	cfg := lone(t)
	cfg.Advertise = strings.Repeat("a", 300) + ":7443"
	var bound []net.Listener
	g, err := New(cfg, Options{
		Log: slog.New(slog.DiscardHandler), Identity: m.Gateway("east", "east-1"),
		Listen: func(network, address string) (net.Listener, error) {
			l, err := net.Listen(network, address)
			bound = append(bound, l)
			return l, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "shorter name") {
		t.Fatalf("Run: %v", err)
	}
	for _, l := range bound {
		if l.Close() == nil {
			t.Errorf("%s was still open", l.Addr())
		}
	}
}
