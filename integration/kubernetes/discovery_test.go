package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/integration/kubernetes/bed"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// discovered are objects as the controllers of a whole cluster would leave them: this one
// runs no pods.
const discovered = `
apiVersion: v1
kind: Namespace
metadata: {name: found}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
---
apiVersion: v1
kind: ServiceAccount
metadata: {namespace: found, name: orders}
---
apiVersion: v1
kind: Service
metadata: {namespace: found, name: orders}
spec:
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: api, port: 81, targetPort: 9090, appProtocol: grpc}
---
apiVersion: v1
kind: Service
metadata: {namespace: found, name: far}
spec: {type: ExternalName, externalName: far.example}
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata: {namespace: found, name: orders}
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata: {namespace: found, name: far}
---
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceExport
metadata: {namespace: found, name: nothing}
---
apiVersion: isthmus.io/v1alpha1
kind: Service
metadata: {namespace: found, name: legacy}
spec: {ports: [{port: 80, protocol: http}], endpoints: [10.1.2.3], health: {type: none}}
---
apiVersion: isthmus.io/v1alpha1
kind: Service
metadata: {namespace: found, name: orders}
spec: {ports: [{port: 80, protocol: tcp}], endpoints: [10.1.2.4], health: {type: none}}
---
apiVersion: isthmus.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: found, name: misspelt}
spec: {rules: [{from: [front/web], methodz: [GET]}]}
`

// discoveredPod is a pod, with a sidecar or not.
func discoveredPod(name, sidecar string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {namespace: found, name: %s, labels: {isthmus.io/sidecar: "%s"}}
spec:
  nodeName: n1
  serviceAccountName: orders
  tolerations: [{operator: Exists}]
  containers: [{name: c, image: "test/none:dev", imagePullPolicy: Never}]
`, name, sidecar)
}

// discoveredSlice is the EndpointSlice of two pods, the second ready or not.
func discoveredSlice(uids []string, ready bool) string {
	return fmt.Sprintf(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: found, name: orders-x, labels: {kubernetes.io/service-name: orders, endpointslice.kubernetes.io/managed-by: test}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: api, port: 9090}]
endpoints:
- {addresses: [10.42.0.10], conditions: {ready: true}, targetRef: {kind: Pod, namespace: found, name: orders-0, uid: %s}}
- {addresses: [10.42.0.11], conditions: {ready: %v}, targetRef: {kind: Pod, namespace: found, name: orders-1, uid: %s}}
`, uids[0], ready, uids[1])
}

func TestAGatewayFindsTheServicesOfAnAPIServer(t *testing.T) {
	w := theBed(t)
	ctx := t.Context()
	cluster, err := w.bed.Start(ctx, "found", 9, bed.Control)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	if _, err := cluster.Kubectl(ctx, "", "apply", "--server-side", "-f", filepath.Join("..", "..", "configs", "helm", "isthmus", "crds")); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Kubectl(ctx, "", "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Apply(ctx, discovered+"---"+discoveredPod("orders-0", "true")+"---"+discoveredPod("orders-1", "false")); err != nil {
		t.Fatal(err)
	}
	out, err := cluster.Kubectl(ctx, "", "-n", "found", "get", "pods", "orders-0", "orders-1", "-o", "jsonpath={.items[*].metadata.uid}")
	uids := strings.Fields(out)
	if err != nil || len(uids) != 2 {
		t.Fatal(out, err)
	}
	if err := cluster.Apply(ctx, discoveredSlice(uids, true)); err != nil {
		t.Fatal(err)
	}
	said, kept, restart := gatewayOutside(t, w, cluster)

	ports := func(want ...string) func() error {
		return func() error {
			g, err := said()
			if err != nil {
				return err
			}
			var got []string
			for _, s := range g.Services {
				for _, c := range s.Clusters {
					if s.Service.Namespace == "found" {
						got = append(got, fmt.Sprintf("%s %d/%s %d of %d, exported %v, plain %v", s.Service.Name, c.Port, c.Protocol, c.Ready, c.Total, c.Exported, c.Plain))
					}
				}
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("it knows %q, want %q; %v", got, want, g.Pending)
			}
			return nil
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	legacy := "legacy 80/http 1 of 1, exported false, plain true"
	must(harness.Eventually(ports(legacy, "orders 80/http 2 of 2, exported true, plain true", "orders 81/grpc 2 of 2, exported true, plain true")))
	must(cluster.Apply(ctx, discoveredSlice(uids, false)))
	must(harness.Eventually(ports(legacy, "orders 80/http 1 of 2, exported true, plain true", "orders 81/grpc 1 of 2, exported true, plain true")))

	conditions := func(kind, name, want string) {
		t.Helper()
		must(cluster.Eventually(ctx, func(out string) error {
			if !strings.Contains(out, want) {
				return fmt.Errorf("no %s", want)
			}
			return nil
		}, "-n", "found", "get", kind, name, "-o", `jsonpath={range .status.conditions[*]}{.type}={.status}/{.reason} {end}`))
	}
	conditions("serviceexport", "orders", "Valid=True/Valid Ready=True/Exported")
	conditions("serviceexport", "far", "Valid=False/InvalidServiceType Ready=False/Failed")
	conditions("serviceexport", "nothing", "Valid=False/NoService Ready=False/Pending")
	conditions("services.isthmus.io", "legacy", "Accepted=True/Accepted")
	conditions("services.isthmus.io", "orders", "Accepted=False/ServiceExists")
	conditions("authorizationpolicy", "misspelt", "Accepted=False/Invalid")
	must(cluster.Eventually(ctx, func(out string) error {
		if !strings.Contains(out, "spec.rules[0].methodz: there is no such key: write methods") {
			return fmt.Errorf("no Event tells of it")
		}
		return nil
	}, "-n", "found", "get", "events", "--field-selector", "reason=Invalid"))

	must(harness.Eventually(func() error { // it is written down
		_, err := os.Stat(kept)
		return err
	}))
	// The API server ends: what it said stays, and the status says for how long.
	must(cluster.Signal(ctx, "kube-apiserver", "KILL"))
	podsLost := func() error {
		g, err := said()
		if err != nil {
			return err
		}
		if g.Kubernetes == nil || !slices.ContainsFunc(g.Kubernetes.Kinds, func(k status.KubernetesKind) bool { return k.Kind == "pods" && k.Known && k.Lost > 0 && k.Error != "" }) {
			return fmt.Errorf("pods are not said to be lost: %+v", g.Kubernetes)
		}
		return nil
	}
	must(harness.Eventually(podsLost))
	must(ports(legacy, "orders 80/http 1 of 2, exported true, plain true", "orders 81/grpc 1 of 2, exported true, plain true")())

	// A gateway that starts now knows what the one before it was told.
	restart()
	must(harness.Eventually(podsLost))
	// That the pod which is not ready once was, only the one before had seen.
	must(harness.Eventually(ports(legacy, "orders 80/http 1 of 1, exported true, plain false", "orders 81/grpc 1 of 1, exported true, plain false")))
	if g, err := said(); err != nil || !g.Ready {
		t.Errorf("it is not ready: %v, %v", g, err)
	}
}

// gatewayOutside runs a gateway beside the clusters, with a kubeconfig, and returns what
// asks it for its status, where it keeps what the API server says, and what starts it again.
func gatewayOutside(t *testing.T, w *world, cluster *bed.Cluster) (said func() (*status.Gateway, error), kept string, restart func()) {
	t.Helper()
	dir, ctx := t.TempDir(), t.Context()
	file := filepath.Join(dir, "gateway.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, `
cluster: found
name: found-1
advertise: 127.0.0.1:27443
identity: {dir: %s}
state: %s
listen: {tunnel: "127.0.0.1:27443", mesh: "127.0.0.1:27444", xds: "127.0.0.1:27445", admin: "127.0.0.1:27446"}
kubernetes: {enabled: true, kubeconfig: %s}
`, identitytest.New(t, "mesh.example").GatewayDir("found", "found-1"), filepath.Join(dir, "state"), cluster.Kubeconfig()), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	var gateway *exec.Cmd
	start := func() {
		gateway = bed.Command(context.WithoutCancel(ctx), w.isthmus, "gateway", "-c", file)
		gateway.Stdout, gateway.Stderr = &log, &log
		if err := gateway.Start(); err != nil {
			t.Fatal(err)
		}
	}
	end := func() {
		_ = gateway.Process.Signal(syscall.SIGTERM)
		_ = gateway.Wait()
	}
	start()
	t.Cleanup(func() {
		end()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	said = func() (*status.Gateway, error) {
		ask := bed.Command(ctx, w.isthmus, "status", "--admin", "127.0.0.1:27446", "-o", "json")
		out, err := ask.Output() // what is wrong is its exit code as well
		var g status.Gateway
		if json.Unmarshal(out, &g) != nil || g.Self.IsZero() {
			return nil, fmt.Errorf("isthmus status: %w: %s", err, out)
		}
		return &g, nil
	}
	return said, filepath.Join(dir, "state", "kubernetes.json"), func() { end(); start() }
}
