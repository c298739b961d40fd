package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/integration/kubernetes/bed"
	"golang.org/x/sync/errgroup"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.world != nil {
		if err := shared.world.close(code != 0); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// shared is the world of all tests of this package, made by the first of them, and its
// clusters by the first that needs them.
var shared struct {
	once     sync.Once
	world    *world
	err      error
	clusters sync.Once
	began    error // of the clusters
}

// world is what the tests share: three clusters, in which each test has namespaces
// of its own.
type world struct {
	bed     *bed.Bed
	dir     string
	isthmus string // the program
	image   string // its image's archive

	probeImage string // the archive of the tests' own program

	east, west, north *bed.Cluster
}

// theWorld returns the running clusters. What the machine lacks skips the test, but in
// continuous integration fails it.
func theWorld(t *testing.T) *world {
	t.Helper()
	w := theBed(t)
	shared.clusters.Do(func() {
		begin := time.Now()
		shared.began = w.startClusters(t.Context())
		t.Logf("the clusters took %v", time.Since(begin).Round(time.Millisecond))
	})
	if shared.began != nil {
		t.Fatal(shared.began)
	}
	return w
}

// theBed is theWorld for a test that starts a cluster of its own: there may be no other.
func theBed(t *testing.T) *world {
	t.Helper()
	shared.once.Do(func() { shared.world, shared.err = newWorld(t.Context()) })
	var lacking lackingError
	if errors.As(shared.err, &lacking) {
		harness.Lacking(t, lacking.Error())
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.world
}

// lackingError says what this machine does not have.
type lackingError struct{ error }

func newWorld(ctx context.Context) (*world, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	b, err := bed.Open(ctx)
	if err != nil {
		return nil, lackingError{err}
	}
	w := &world{bed: b}
	if err := w.build(ctx); err != nil {
		return nil, errors.Join(err, w.close(true))
	}
	return w, nil
}

// build makes the images.
func (w *world) build(ctx context.Context) error {
	var err error
	if w.dir, err = os.MkdirTemp("", "isthmus-kubernetes-"); err != nil {
		return err
	}
	if w.isthmus, w.image, err = w.bed.Isthmus(ctx, w.dir); err != nil {
		return err
	}
	w.probeImage, err = w.bed.ProbeImage(ctx, w.dir)
	return err
}

func (w *world) startClusters(ctx context.Context) error {
	starting, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	group, ctx := errgroup.WithContext(starting)
	for i, c := range w.named() {
		group.Go(func() error {
			var err error
			*c.cluster, err = w.bed.Start(ctx, c.name, i+1, bed.Full)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := w.authorities(starting); err != nil {
		return err
	}
	group, ctx = errgroup.WithContext(starting)
	for _, c := range w.clusters() {
		group.Go(func() error {
			if err := c.LoadImage(ctx, w.image); err != nil {
				return err
			}
			if err := c.LoadImage(ctx, w.probeImage); err != nil {
				return err
			}
			if err := c.Rollout(ctx, "kube-system", "deploy/coredns"); err != nil {
				return err
			}
			return w.install(ctx, c)
		})
	}
	return group.Wait()
}

type namedCluster struct {
	name    string
	cluster **bed.Cluster
}

func (w *world) named() []namedCluster {
	return []namedCluster{{"east", &w.east}, {"west", &w.west}, {"north", &w.north}}
}

// clusters are those that run.
func (w *world) clusters() []*bed.Cluster {
	var all []*bed.Cluster
	for _, c := range w.named() {
		if *c.cluster != nil {
			all = append(all, *c.cluster)
		}
	}
	return all
}

// close ends the clusters; aloud keeps what they said.
func (w *world) close(aloud bool) error {
	var err error
	if aloud {
		for _, c := range w.clusters() {
			err = errors.Join(err, c.Describe(context.Background(), filepath.Join(w.dir, "clusters")))
		}
		fmt.Fprintf(os.Stderr, "what the clusters said is in %s\n", filepath.Join(w.dir, "clusters"))
	}
	if os.Getenv("KEEP") != "" {
		fmt.Fprintln(os.Stderr, "the clusters are running (KEEP): bed/down ends them")
		return err
	}
	err = errors.Join(err, w.bed.Close())
	if !aloud {
		err = errors.Join(err, os.RemoveAll(w.dir))
	}
	return err
}
