package kubernetes

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/integration/harness"
)

// database is a namespace with a StatefulSet of two, its headless Service, and a Service with a
// ClusterIP, which leads to the same pods; captured in one of the ways.
func database(namespace, way string) string {
	return strings.NewReplacer("NAMESPACE", namespace, "BY_", way).Replace(`
apiVersion: v1
kind: Namespace
metadata: {name: NAMESPACE, labels: {isthmus.io/inject: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: NAMESPACE}
spec:
  clusterIP: None
  selector: {app: db}
  ports: [{name: http, port: 8080}, {name: tcp-echo, port: 9000}]
---
apiVersion: v1
kind: Service
metadata: {name: db-read, namespace: NAMESPACE}
spec:
  selector: {app: db}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: NAMESPACE}
spec:
  serviceName: db
  replicas: 2
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}, annotations: {isthmus.io/interception: BY_}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: server
        image: test/probe:dev
        imagePullPolicy: Never
        args: [serve]
        env: [{name: CLUSTER, value: east}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: caller, namespace: NAMESPACE, annotations: {isthmus.io/interception: BY_}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - {name: server, image: "test/probe:dev", imagePullPolicy: Never, args: [wait]}
`)
}

// TestAMeshedCallerReachesAStrictPodByItsOwnAddress calls the pods of a StatefulSet, which refuse
// whom they cannot identify, by all that programs call them by.
func TestAMeshedCallerReachesAStrictPodByItsOwnAddress(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	for _, way := range []string{"node", "init"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			ns := "direct-" + way
			if err := w.east.Apply(ctx, database(ns, way)); err != nil {
				t.Fatal(err)
			}
			if err := w.east.Rollout(ctx, ns, "statefulset/db"); err != nil {
				t.Fatal(err)
			}
			if _, err := w.east.Kubectl(ctx, "", "-n", ns, "wait", "--for=condition=Ready", "pod/caller", "--timeout=120s"); err != nil {
				t.Fatal(err)
			}
			ip := map[string]string{}
			for _, pod := range []string{"db-0", "db-1"} {
				out, err := w.east.Kubectl(ctx, "", "-n", ns, "get", "pod", pod, "-o", "jsonpath={.status.podIP}")
				if err != nil {
					t.Fatal(err)
				}
				ip[pod] = out
			}
			calls := func(from, url, pod string) {
				t.Helper()
				err := harness.Eventually(func() error {
					out, err := w.east.Exec(ctx, ns+"/"+from, "server", "/probe", "get", url)
					if err != nil {
						return fmt.Errorf("%w: %s", err, out)
					}
					var by struct{ Pod, Caller string }
					if err := json.Unmarshal([]byte(out), &by); err != nil {
						return err
					}
					if pod != "" && by.Pod != pod || !strings.Contains(by.Caller, "/cluster/east/ns/"+ns+"/sa/default") {
						return fmt.Errorf("%+v answered, want %s by the mesh", by, pod)
					}
					return nil
				})
				if err != nil {
					t.Errorf("%s calls %s: %v", from, url, err)
				}
			}
			// A variable first: nothing has been asked for by name.
			calls("caller", "http://$DB_READ_SERVICE_HOST/", "")
			for range 3 {
				for pod := range ip {
					calls("caller", "http://"+pod+".db:8080/", pod)
					calls("caller", "http://"+pod+".db."+ns+".svc.cluster.local:8080/", pod)
					calls("caller", "http://"+ip[pod]+":8080/", pod)
				}
			}
			calls("caller", "http://db:8080/", "")
			calls("db-0", "http://"+ip["db-1"]+":8080/", "db-1") // its peer, of which it has asked nobody
			out, err := w.east.Exec(ctx, ns+"/caller", "server", "/probe", "lookup", "db."+ns+".svc.cluster.local")
			if err != nil || !strings.Contains(out, ip["db-0"]) || !strings.Contains(out, ip["db-1"]) {
				t.Errorf("the headless service is %q, %v, want the addresses of %v", out, err, ip)
			}
		})
	}
}
