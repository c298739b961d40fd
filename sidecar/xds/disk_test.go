package xds

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

func TestAStateThatCouldNotBeWrittenIsWrittenWhenItCan(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "full")
	path := filepath.Join(dir, "routes.pb")
	c, err := New(Config{
		Identity: identitytest.New(t, "mesh.example").Workload("east", "shop", "web"), Cluster: "east",
		Gateways: []string{"127.0.0.1:1"}, Apply: func(State) {}, StatePath: path, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var loop sync.WaitGroup
	loop.Go(func() { c.saveLoop(ctx) })
	defer loop.Wait()
	defer cancel()
	c.keep()
	time.Sleep(3 * saveDelay) // the first attempt has failed
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); ; time.Sleep(saveDelay) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Since(began) > 5*saveInterval {
			t.Fatal("what was accepted never came to disk")
		}
	}
}
