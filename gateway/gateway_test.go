package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
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
	for _, after := range []string{"before Run", "a hundred yields", "ten thousand yields", "all is served"} {
		serving := make(chan struct{})
		g, err := New(lone(t), Options{
			Log: slog.New(slog.DiscardHandler), Identity: m.Gateway("east", "east-1"), Serving: func() error { close(serving); return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		if after == "before Run" {
			if err := g.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- g.Run(ctx) }()
		switch after {
		case "a hundred yields":
			yield(100)
		case "ten thousand yields":
			yield(10_000)
		case "all is served":
			<-serving
		}
		draining, stop := context.WithTimeout(t.Context(), patience)
		_ = g.Shutdown(draining) // whatever it finds, it must not crash or hang
		stop()
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("stopped after %s: %v", after, err)
			}
		case <-time.After(patience):
			t.Fatalf("stopped after %s: Run does not return", after)
		}
	}
}

// yield lets other goroutines run n times.
func yield(n int) {
	for range n {
		runtime.Gosched()
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
	cfg.Connections = 1000
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
	if err := g.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "connections") {
		t.Fatalf("Run: %v", err)
	}
	for _, l := range bound {
		if l.Close() == nil {
			t.Errorf("%s was still open", l.Addr())
		}
	}
}

func TestWhatNewRefusesCheckSays(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	for name, c := range map[string]struct {
		change func(*config.Gateway)
		keys   []string
	}{
		"nothing is wrong":        {func(*config.Gateway) {}, nil},
		"no certificate":          {func(cfg *config.Gateway) { cfg.Identity.Dir = t.TempDir() }, []string{"identity.dir"}},
		"another gateway's":       {func(cfg *config.Gateway) { cfg.Name = "east-2" }, []string{"identity.dir"}},
		"a workload's":            {func(cfg *config.Gateway) { cfg.Identity.Dir = m.WorkloadDir("east", "shop", "web") }, []string{"identity.dir"}},
		"a tunnel without a port": {func(cfg *config.Gateway) { cfg.Listen.Tunnel = "127.0.0.1" }, []string{"listen.tunnel"}},
		"addresses that are too long": {func(cfg *config.Gateway) {
			cfg.Advertise = strings.Repeat("a", 300) + ":7443"
			cfg.MeshAddress = cfg.Advertise
		}, []string{"advertise", "meshAddress"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := lone(t)
			cfg.Identity.Dir = m.GatewayDir("east", "east-1")
			c.change(cfg)
			said := Check(cfg)
			if _, err := New(cfg, Options{Log: slog.New(slog.DiscardHandler)}); (err == nil) != (said == nil) {
				t.Fatalf("New says %v, Check says %v", err, said)
			}
			for _, key := range c.keys {
				if !strings.Contains(fmt.Sprint(said), key+": ") {
					t.Errorf("%v does not name %s", said, key)
				}
			}
			if c.keys == nil && said != nil {
				t.Error(said)
			}
		})
	}
}
