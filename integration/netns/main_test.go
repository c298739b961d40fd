package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/integration/hosts"
	"github.com/isthmus-mesh/isthmus/interception"
)

const limit = harness.Limit

// isthmusBinary is the program under test, built with the first world.
var isthmusBinary string

// self is this test binary, which plays programs as well.
var self string

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "program" {
		play(os.Args[2], os.Args[3:])
		return
	}
	var err error
	if self, err = os.Executable(); err != nil {
		panic(err)
	}
	code := m.Run()
	if shared.world != nil {
		if err := shared.world.close(code != 0); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// shared is the world of all tests of this package, made by the first of them.
var shared struct {
	once  sync.Once
	world *world
	err   error
}

// theWorld returns the running clusters. Without root it skips the test, but in
// continuous integration it fails.
func theWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		harness.Lacking(t, "network namespaces need root")
	}
	if err := interception.Probe().Err(); err != nil {
		harness.Lacking(t, err.Error())
	}
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		harness.Lacking(t, "the kernel has no IPv6")
	}
	for _, name := range []string{"ip", "nsenter", "setpriv", "nginx", "redis-server"} {
		harness.Tool(t, name)
	}
	if _, err := postgres("postgres"); err != nil {
		harness.Lacking(t, err.Error())
	}
	shared.once.Do(func() {
		begin := time.Now()
		shared.world, shared.err = newWorld()
		t.Logf("the world took %v", time.Since(begin).Round(time.Millisecond))
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.world
}

// newWorld starts everything that the tests share.
func newWorld() (*world, error) {
	w := &world{dir: hosts.Dir()}
	if err := w.start(); err != nil {
		return nil, errors.Join(err, w.close(true))
	}
	return w, nil
}

func (w *world) start() error {
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(w.dir, 0o755); err != nil { // whatever the umask: not all servers are root
		return err
	}
	var err error
	if isthmusBinary, err = harness.Build(context.Background(), w.dir); err != nil {
		return err
	}
	if err := hosts.Sweep(isthmusBinary, hosts.Gone); err != nil {
		return fmt.Errorf("remove what an earlier run left: %w", err)
	}
	if err := hosts.PlugSwitch(east, west, north, wan); err != nil {
		return err
	}
	if err := w.pki(east, west, north); err != nil {
		return err
	}
	for i, cluster := range []hosts.Network{east, west, north} {
		if err := w.gateway(cluster, i+1); err != nil {
			return err
		}
	}
	if err := w.services(); err != nil {
		return err
	}
	return w.settled()
}

// close removes the world. What its processes did wrong is an error; aloud shows
// the ends of their logs.
func (w *world) close(aloud bool) error {
	var err error
	for _, h := range w.hosts {
		err = errors.Join(err, h.End())
	}
	if aloud || err != nil {
		for _, h := range w.hosts {
			fmt.Fprint(os.Stderr, h.Logs())
		}
	}
	return errors.Join(err, hosts.Sweep(isthmusBinary, hosts.Ours))
}
