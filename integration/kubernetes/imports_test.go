package kubernetes

import (
	"fmt"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/integration/kubernetes/bed"
)

// eventuallyIs waits until what kubectl shows of an object by a jsonpath is want.
func eventuallyIs(t *testing.T, c *bed.Cluster, namespace, object, jsonpath, want string) {
	t.Helper()
	if err := c.Eventually(t.Context(), func(out string) error {
		if strings.TrimSpace(out) != want {
			return fmt.Errorf("%s of %s in %s is not %q", jsonpath, object, c.Name, want)
		}
		return nil
	}, "-n", namespace, "get", object, "--ignore-not-found", "-o", "jsonpath="+jsonpath); err != nil {
		t.Fatal(err)
	}
}

// The Multi-Cluster Services API (KEP-1645) as users see it: what is exported somewhere is
// imported wherever the namespace exists, is one service although exporters differ, and
// goes with the last exporter.
func TestAServiceImportIsWhatItsExportersSayAndGoesWithTheLastOfThem(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	ctx := t.Context()
	const ns = "imports"
	apply := func(c *bed.Cluster, manifests string) {
		t.Helper()
		if err := c.Apply(ctx, manifests); err != nil {
			t.Fatal(err)
		}
	}
	run := func(c *bed.Cluster, args ...string) {
		t.Helper()
		if _, err := c.Kubectl(ctx, "", args...); err != nil {
			t.Fatal(err)
		}
	}
	const ports = `{range .spec.ports[*]}{.name} {.port} {.protocol},{end}`
	apply(w.east, server(ns, "orders", "east", 1)+export(ns, "orders"))
	apply(w.west, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+ns+"}\n---"+client(ns, "visitor", "wait"))
	for _, c := range []*bed.Cluster{w.east, w.west} {
		eventuallyIs(t, c, ns, "serviceimport/orders", `{.spec.type} {.status.clusters[*].cluster}`, "ClusterSetIP east")
		eventuallyIs(t, c, ns, "serviceimport/orders", ports, "http 80 TCP,tcp-echo 9000 TCP,")
	}
	for condition, status := range map[string]string{"Valid": "True", "Ready": "True", "Conflict": "False"} {
		eventuallyIs(t, w.east, ns, "serviceexport/orders", `{.status.conditions[?(@.type=="`+condition+`")].status}`, status)
	}
	if out, err := w.north.Kubectl(ctx, "", "get", "serviceimport", "-A", "-o", "name"); err != nil || strings.Contains(out, ns+"/") {
		t.Errorf("a cluster without the namespace has %q, %v", out, err)
	}

	// A pod without a sidecar calls it, by the address that the cluster's DNS gives it.
	if err := w.east.Rollout(ctx, ns, "deploy/orders"); err != nil {
		t.Fatal(err)
	}
	run(w.west, "-n", ns, "wait", "--for=condition=Ready", "pod/visitor", "--timeout=120s")
	if err := w.west.Eventually(ctx, func(out string) error { return clusterAnswered(out, nil, "east") },
		"-n", ns, "exec", "visitor", "--", "/probe", "get", "http://orders."+ns+".svc.clusterset.local/"); err != nil {
		t.Fatal(err)
	}

	// West exports it with another port and without an address: east was first.
	west := strings.NewReplacer("{name: http, port: 80, targetPort: 8080}", "{name: http, port: 81, targetPort: 8080}",
		"  selector: {app: orders}\n  ports:", "  clusterIP: None\n  selector: {app: orders}\n  ports:").Replace(server(ns, "orders", "west", 1))
	apply(w.west, west+export(ns, "orders"))
	for _, c := range []*bed.Cluster{w.east, w.west} {
		eventuallyIs(t, c, ns, "serviceexport/orders", `{.status.conditions[?(@.type=="Conflict")].reason}`, "PortConflict,TypeConflict")
		eventuallyIs(t, c, ns, "serviceimport/orders", `{.spec.type} {.status.clusters[*].cluster}`, "ClusterSetIP east west")
		eventuallyIs(t, c, ns, "serviceimport/orders", ports, "http 80 TCP,tcp-echo 9000 TCP,")
	}

	// Of west alone it is headless, and has no address.
	run(w.east, "-n", ns, "delete", "serviceexport", "orders")
	for _, c := range []*bed.Cluster{w.east, w.west} {
		eventuallyIs(t, c, ns, "serviceimport/orders", `{.spec.type} {.status.clusters[*].cluster} {.spec.ips}`, "Headless west")
		eventuallyIs(t, c, ns, "serviceimport/orders", ports, "http 81 TCP,tcp-echo 9000 TCP,")
	}
	run(w.west, "-n", ns, "delete", "serviceexport", "orders")
	for _, c := range []*bed.Cluster{w.east, w.west} {
		for _, kind := range []string{"serviceimports", "services", "endpointslices"} {
			if err := c.Eventually(ctx, func(out string) error {
				if out != "" {
					return fmt.Errorf("%s has %s", c.Name, out)
				}
				return nil
			}, "-n", ns, "get", kind, "-l", "app.kubernetes.io/managed-by=isthmus", "-o", "name"); err != nil {
				t.Fatal(err)
			}
		}
	}
}
