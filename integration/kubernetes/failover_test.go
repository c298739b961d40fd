package kubernetes

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/kubernetes/bed"
	"golang.org/x/sync/errgroup"
)

// export is a ServiceExport.
func export(namespace, name string) string {
	return fmt.Sprintf(`---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata: {name: %s, namespace: %s}
`, name, namespace)
}

// deploy puts a service with replicas into the clusters, in a labelled namespace,
// exported, and waits until it is ready and each of them knows of the others.
func (w *world) deploy(t *testing.T, namespace, name string, replicas int, clusters ...*bed.Cluster) {
	t.Helper()
	var group errgroup.Group
	for _, c := range clusters {
		group.Go(func() error {
			// Of a former run (-count): a namespace that is going takes nothing in.
			if _, err := c.Kubectl(t.Context(), "", "delete", "namespace", namespace, "--ignore-not-found", "--timeout=120s"); err != nil {
				return err
			}
			if err := c.Apply(t.Context(), meshed(server(namespace, name, c.Name, replicas))+export(namespace, name)); err != nil {
				return err
			}
			return c.Rollout(t.Context(), namespace, "deploy/"+name)
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, c := range clusters {
		if err := c.Eventually(t.Context(), func(known string) error {
			for _, other := range clusters {
				if !slices.Contains(strings.Fields(known), other.Name) {
					return fmt.Errorf("%s does not know of %s", c.Name, other.Name)
				}
			}
			return nil
		}, "-n", namespace, "get", "serviceimport", name, "-o", "jsonpath={.status.clusters[*].cluster}"); err != nil {
			t.Fatal(err)
		}
	}
}

// long reports whether what takes minutes takes them: LONG=1.
func long() bool { return os.Getenv("LONG") != "" }

// The issue of it all: a service in three clusters, one caller, and what goes wrong one
// after the other. Idempotent requests do not fail, whatever is lost.
func TestNoRequestFailsWhenPodsNodesAPIServersAndClustersAreLost(t *testing.T) {
	w := theWorld(t)
	ctx := t.Context()
	w.deploy(t, "shop", "orders", 2, w.clusters()...)
	load := startLoad(t, w.east, "shop", "caller", "http://orders.shop.svc.clusterset.local/")
	load.servedBy(t, "east")
	kubectl := func(t *testing.T, c *bed.Cluster, args ...string) {
		t.Helper()
		if _, err := c.Kubectl(ctx, "", args...); err != nil {
			t.Fatal(err)
		}
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	t.Run("a rolling restart", func(t *testing.T) {
		begin := time.Now()
		kubectl(t, w.east, "-n", "shop", "rollout", "restart", "deploy/orders")
		must(t, w.east.Rollout(ctx, "shop", "deploy/orders"))
		load.unharmed(t, begin)
	})
	t.Run("pods deleted by force", func(t *testing.T) {
		begin := time.Now()
		kubectl(t, w.east, "-n", "shop", "delete", "pod", "-l", "app=orders", "--force", "--grace-period=0")
		must(t, w.east.Rollout(ctx, "shop", "deploy/orders"))
		load.unharmed(t, begin)
	})
	t.Run("the own cluster's API server stopped", func(t *testing.T) {
		stopped := 10 * time.Second
		if long() {
			stopped = 2 * time.Minute
		}
		begin := time.Now()
		must(t, w.east.Signal(ctx, "kube-apiserver", "STOP"))
		time.Sleep(stopped)
		must(t, w.east.Signal(ctx, "kube-apiserver", "CONT"))
		load.unharmed(t, begin)
	})
	t.Run("a service scaled to nothing at home, and served from far", func(t *testing.T) {
		begin := time.Now()
		kubectl(t, w.east, "-n", "shop", "scale", "deploy/orders", "--replicas=0")
		kubectl(t, w.east, "-n", "shop", "wait", "--for=delete", "pod", "-l", "app=orders", "--timeout=120s")
		if v := load.unharmed(t, begin); v.from["west"]+v.from["north"] == 0 {
			t.Errorf("nothing is served from far: %v", v)
		}
	})
	t.Run("a far node cordoned and drained", func(t *testing.T) {
		begin := time.Now()
		kubectl(t, w.west, "drain", "west", "--pod-selector=app=orders", "--delete-emptydir-data", "--timeout=120s")
		load.servedBy(t, "north")
		load.unharmed(t, begin)
		kubectl(t, w.west, "uncordon", "west")
		must(t, w.west.Rollout(ctx, "shop", "deploy/orders"))
	})
	t.Run("a far cluster frozen", func(t *testing.T) {
		begin := time.Now()
		must(t, w.north.Freeze())
		defer func() { must(t, w.north.Thaw()) }()
		load.servedBy(t, "west")
		load.unharmed(t, begin)
	})
	t.Run("a far cluster cut off", func(t *testing.T) {
		w.bothServe(t)
		begin := time.Now()
		must(t, w.west.Cut(ctx))
		defer func() { must(t, w.west.Join(ctx)) }()
		load.servedBy(t, "north")
		load.unharmed(t, begin)
	})
	t.Run("and home again", func(t *testing.T) {
		begin := time.Now()
		kubectl(t, w.east, "-n", "shop", "scale", "deploy/orders", "--replicas=2")
		must(t, w.east.Rollout(ctx, "shop", "deploy/orders"))
		load.servedBy(t, "east")
		load.unharmed(t, begin)
	})
	kubectl(t, w.east, "-n", "shop", "delete", "pod", "caller")
}

// bothServe waits until west and north are back: their APIs answer.
func (w *world) bothServe(t *testing.T) {
	t.Helper()
	for _, c := range []*bed.Cluster{w.west, w.north} {
		if err := c.Rollout(t.Context(), "shop", "deploy/orders"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestScalingFromNothingToManyAndBackLosesNoRequest(t *testing.T) {
	w := theWorld(t)
	ctx := t.Context()
	many := 6
	if long() {
		many = 20
	}
	w.deploy(t, "scale", "orders", 1, w.east, w.west)
	load := startLoad(t, w.east, "scale", "caller", "http://orders.scale.svc.clusterset.local/")
	for _, replicas := range []int{0, many, 0} {
		begin := time.Now()
		if _, err := w.east.Kubectl(ctx, "", "-n", "scale", "scale", "deploy/orders", fmt.Sprintf("--replicas=%d", replicas)); err != nil {
			t.Fatal(err)
		}
		if err := w.east.Rollout(ctx, "scale", "deploy/orders"); err != nil {
			t.Fatal(err)
		}
		if replicas == 0 {
			load.servedBy(t, "west")
		} else {
			load.servedBy(t, "east")
		}
		t.Logf("%d replicas", replicas)
		load.unharmed(t, begin)
	}
	if _, err := w.east.Kubectl(ctx, "", "delete", "namespace", "scale", "--wait=false"); err != nil {
		t.Error(err)
	}
}
