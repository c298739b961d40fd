package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestAReloadPutsInForceWhatCanChangeAndNamesWhatCannot(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "orders.yaml"), []byte(`apiVersion: isthmus.io/v1alpha1
kind: Service
metadata: {namespace: shop, name: orders}
spec:
  ports: [{port: 80, protocol: http}]
  endpoints: [127.0.0.1:1]
`), 0o600); err != nil {
		t.Fatal(err)
	}
	west := lone(t)
	west.Cluster, west.Name, west.Listen.Tunnel = "west", "west-1", freePort(t)
	west.Advertise = west.Listen.Tunnel
	running(t, west, m.Gateway("west", "west-1"))

	file := *lone(t) // as it stands in the file
	var unreadable error
	level := new(slog.LevelVar)
	started := file
	g, err := New(&started, Options{
		Log: slog.New(slog.DiscardHandler), Level: level, Identity: m.Gateway("east", "east-1"),
		Configuration: func() (*config.Gateway, error) { read := file; return &read, unreadable },
	})
	if err != nil {
		t.Fatal(err)
	}
	if v := g.Reload(t.Context()); v.Error == "" {
		t.Error("reloaded before it runs")
	}
	run(t, g)
	until(t, "it is ready", func() bool { return len(g.ready.Unmet()) == 0 })
	if v := g.Reload(t.Context()); !v.OK() || len(v.Changed) > 0 {
		t.Errorf("nothing has changed, but: %s", v)
	}

	file.Resources, file.Join = folder, []string{west.Advertise}
	file.Imports = mesh.Imports{"west": {{Namespace: "shop"}}}
	file.Limits.Paths, file.Drain, file.Log.Level = 7, time.Minute, config.LogLevel(slog.LevelDebug)
	file.Listen.Admin, file.Connections = "127.0.0.1:1", 2
	v := g.Reload(t.Context())
	if want := []string{"join", "imports", "resources", "limits.paths", "drain", "log.level"}; !slices.Equal(v.Changed, want) || v.Error != "" {
		t.Errorf("changed %v, want %v; %s", v.Changed, want, v.Error)
	}
	if want := []string{"listen.admin", "connections"}; !slices.Equal(v.Restart, want) {
		t.Errorf("waits for a restart: %v, want %v", v.Restart, want)
	}
	if last := g.Status().Reload; last != v {
		t.Errorf("status says %v", last)
	}
	if g.Drain() != time.Minute || level.Level() != slog.LevelDebug {
		t.Errorf("drain %s, level %s", g.Drain(), level.Level())
	}
	until(t, "the new folder is read", func() bool { return g.router.Load().local[orders] != nil })
	until(t, "the new gateway is met", func() bool { view, _ := g.federation.View(); return view.Met() })

	for name, spoil := range map[string]func(){
		"a bad file":                 func() { unreadable = errors.New("gateway.yaml:3: drian: no such key") },
		"a bad address":              func() { file.Listen.Tunnel = "127.0.0.1" },
		"a folder that is not there": func() { file.Resources = filepath.Join(folder, "nowhere") },
	} {
		before, good := *g.inForce.Load(), file
		file.Limits.Paths = 9
		spoil()
		v := g.Reload(t.Context())
		if v.Error == "" || len(v.Changed) > 0 || fmt.Sprint(*g.inForce.Load()) != fmt.Sprint(before) {
			t.Errorf("%s: %s", name, v)
		}
		if problems := strings.Join(g.Status().Problems(time.Now()), "\n"); !strings.Contains(problems, "the old configuration stays in force") {
			t.Errorf("%s: status says %q", name, problems)
		}
		file, unreadable = good, nil
	}
	file.Resources = ""
	if v := g.Reload(t.Context()); !slices.Equal(v.Changed, []string{"resources"}) {
		t.Errorf("changed %v", v.Changed)
	}
	until(t, "there are no resources any more", func() bool { return g.router.Load().local[orders] == nil })
}

// run runs g until the test ends.
func run(t *testing.T, g *Gateway) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	until(t, "it runs", g.wired.Load)
}
