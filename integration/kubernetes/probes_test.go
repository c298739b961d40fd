package kubernetes

import (
	"fmt"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/integration/kubernetes/bed"
)

// probed is a namespace with a pod that is probed in each way and called by a NodePort, one that
// is ill, and one in the node's network.
const probed = `
apiVersion: v1
kind: Namespace
metadata: {name: NAMESPACE, labels: {isthmus.io/inject: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: NAMESPACE}
spec: {type: NodePort, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080, nodePort: NODEPORT}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: NAMESPACE, labels: {app: web}, annotations: {isthmus.io/interception: BY_}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: server
    image: test/probe:dev
    imagePullPolicy: Never
    args: [serve]
    env: [{name: CLUSTER, value: east}]
    ports: [{name: web, containerPort: 8080}]
    startupProbe: {httpGet: {path: "/start?a=1,2", port: web, httpHeaders: [{name: Host, value: web.example}]}, periodSeconds: 1}
    livenessProbe: {tcpSocket: {port: 9000}, periodSeconds: 1}
    readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: ill, namespace: NAMESPACE, annotations: {isthmus.io/interception: BY_}}
spec:
  terminationGracePeriodSeconds: 5
  containers: [{name: client, image: "test/probe:dev", imagePullPolicy: Never, args: [wait], readinessProbe: {tcpSocket: {port: 7777}, periodSeconds: 1}}]
---
apiVersion: v1
kind: Pod
metadata: {name: neighbour, namespace: NAMESPACE}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 5
  containers: [{name: client, image: "test/probe:dev", imagePullPolicy: Never, args: [wait]}]
`

func TestWhoComesFromTheNodeIsAStrangerAndTheKubeletsProbesGoOn(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	for way, nodePort := range map[string]string{"node": "30090", "init": "30091"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			ns := "probed-" + way
			if err := w.east.Apply(ctx, strings.NewReplacer("NAMESPACE", ns, "BY_", way, "NODEPORT", nodePort).Replace(probed)); err != nil {
				t.Fatal(err)
			}
			if _, err := w.east.Kubectl(ctx, "", "-n", ns, "wait", "--for=condition=Ready", "pod/web", "pod/neighbour", "--timeout=120s"); err != nil {
				t.Fatal(err)
			}
			if err := w.east.Eventually(ctx, func(out string) error {
				if !strings.Contains(out, "Readiness probe failed: HTTP probe failed with statuscode: 503") {
					return fmt.Errorf("no event says that the pod is ill")
				}
				return nil
			}, "-n", ns, "get", "events", "--field-selector", "involvedObject.name=ill", "-o", "jsonpath={.items[*].message}"); err != nil {
				t.Error(err)
			}
			ip, err := w.east.Kubectl(ctx, "", "-n", ns, "get", "pod", "web", "-o", "jsonpath={.status.podIP}")
			if err != nil {
				t.Fatal(err)
			}
			for from, call := range map[string]func() (string, error){
				"the node's network": func() (string, error) {
					return w.east.Exec(ctx, ns+"/neighbour", "client", "/probe", "get", "http://"+ip+":8080/")
				},
				"a NodePort": func() (string, error) {
					out, err := bed.Command(ctx, "curl", "-s", "-w", "%{http_code}", "-m", "20", fmt.Sprintf("http://%v:%s/", w.east.Node, nodePort)).Output()
					return string(out), err
				},
			} {
				err := harness.Eventually(func() error {
					out, err := call()
					if !strings.Contains(fmt.Sprint(out, err), "403") || !strings.Contains(out, "only callers of the mesh are served here") {
						return fmt.Errorf("%q, %v; want to be refused, and why", out, err)
					}
					return nil
				})
				if err != nil {
					t.Errorf("from %s: %v", from, err)
				}
			}
		})
	}
}
