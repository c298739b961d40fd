package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/integration/kubernetes/bed"
)

// A cluster of plain machines joins those of Kubernetes, and both stand in for each other.
func TestAClusterOfPlainMachinesJoinsAndTakesOver(t *testing.T) {
	w := theWorld(t)
	ctx := t.Context()
	w.deploy(t, "mixed", "orders", 1, w.east)
	load := startLoad(t, w.east, "mixed", "caller", "http://orders.mixed.svc.clusterset.local/")
	load.servedBy(t, "east")

	m, err := w.bed.Machine(ctx, "machines", 4)
	if err != nil {
		t.Fatal(err)
	}
	w.startMachine(t, m)
	begin := time.Now()
	scale := func(replicas int) {
		t.Helper()
		if _, err := w.east.Kubectl(ctx, "", "-n", "mixed", "scale", "deploy/orders", fmt.Sprintf("--replicas=%d", replicas)); err != nil {
			t.Fatal(err)
		}
	}
	scale(0)
	load.servedBy(t, "machines")
	load.unharmed(t, begin)
	begin = time.Now()
	scale(1)
	load.servedBy(t, "east")
	load.unharmed(t, begin)
	if _, err := w.east.Kubectl(ctx, "", "delete", "namespace", "mixed", "--wait=false"); err != nil {
		t.Error(err)
	}
}

// startMachine starts a gateway, a sidecar and its program on a machine, which end with
// the test, and waits until east's ServiceImport names its cluster.
func (w *world) startMachine(t *testing.T, m *bed.Machine) {
	t.Helper()
	dir := t.TempDir()
	for _, argv := range [][]string{
		{"pki", "gateway", "--cluster", "machines", "machines-1"},
		{"pki", "workload", "--cluster", "machines", "mixed/orders"},
	} {
		if _, err := harness.Isthmus(w.isthmus, append(argv, "-d", w.pki())...); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]string{
		"gateway.yaml": fmt.Sprintf(`
cluster: machines
name: machines-1
advertise: %v:7443
join: ["%v:%d"]
identity: {dir: %s}
state: %s
`, m.Address, w.east.Node, gatewayPorts[0], filepath.Join(w.pki(), "machines/gateways/machines-1"), filepath.Join(dir, "gateway")),
		"sidecar.yaml": fmt.Sprintf(`
gateways: ["%v:15012"]
identity: {dir: %s}
state: %s
service: {name: mixed/orders, port: 80, target: "127.0.0.1:8080", protocol: http, export: true}
`, m.Address, filepath.Join(w.pki(), "machines/workloads/mixed/orders"), filepath.Join(dir, "sidecar")),
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, argv := range map[string][]string{
		"gateway": {w.isthmus, "gateway", "-c", filepath.Join(dir, "gateway.yaml")},
		"sidecar": {w.isthmus, "sidecar", "-c", filepath.Join(dir, "sidecar.yaml"), "--", filepath.Join(w.dir, "probe"), "serve"},
	} {
		cmd := m.Command(context.WithoutCancel(t.Context()), argv...)
		log, err := os.Create(filepath.Join(w.dir, "machines-"+name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		cmd.Stdout, cmd.Stderr = log, log
		cmd.Env = append(os.Environ(), "CLUSTER=machines")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
			if content, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
				t.Logf("%s:\n%s", name, content)
			}
		})
	}
	if err := w.east.Eventually(t.Context(), func(clusters string) error {
		if !strings.Contains(clusters, "machines") {
			return errors.New("machines is not among them")
		}
		return nil
	}, "-n", "mixed", "get", "serviceimport", "orders", "-o", "jsonpath={.status.clusters[*].cluster}"); err != nil {
		t.Fatal(err)
	}
}
