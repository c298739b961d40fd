package adsclient

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/gatewaylink"
)

func TestAStateThatCouldNotBeWrittenIsWrittenWhenItCan(t *testing.T) {
	id := identitytest.New(t, "mesh.example").Workload("east", "shop", "web")
	dir := filepath.Join(t.TempDir(), "full")
	path := filepath.Join(dir, "routes.pb")
	synctest.Test(t, func(t *testing.T) {
		links, err := gatewaylink.New(id, []string{"127.0.0.1:1"})
		if err != nil {
			t.Fatal(err)
		}
		c, err := New(Config{Links: links, ID: id.ID().String(), Apply: func([]*mesh.Route, []mesh.Destination) {}, StatePath: path})
		if err != nil {
			t.Fatal(err)
		}
		var running sync.WaitGroup
		running.Go(func() { c.Run(t.Context()) })
		t.Cleanup(running.Wait) // after the test's context has ended
		c.applyChange()
		time.Sleep(saveDelay)
		synctest.Wait()
		if err := c.saver.Err(); err == nil {
			t.Fatal("written into a folder that is not there")
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(saveInterval + saveDelay)
		synctest.Wait()
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("what was accepted never came to disk: %v", err)
		}
	})
}
