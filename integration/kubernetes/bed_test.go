package kubernetes

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/integration/kubernetes/bed"
)

// What all other tests rest on: without a mesh, the clusters are what users have.
func TestAPodIsReachedByItsServicesNameAndFromOtherClustersByItsNodePort(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	ctx := t.Context()
	if err := w.east.Apply(ctx, server("bed", "web", "east", 1)+`---
apiVersion: v1
kind: Service
metadata: {name: web-node, namespace: bed}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
---
`+client("bed", "client", "wait")); err != nil {
		t.Fatal(err)
	}
	if err := w.east.Rollout(ctx, "bed", "deploy/web"); err != nil {
		t.Fatal(err)
	}
	err := harness.Eventually(func() error {
		out, err := w.east.Exec(ctx, "bed/client", "", "/probe", "get", "http://web.bed.svc.cluster.local/a")
		return clusterAnswered(out, err, "east")
	})
	if err != nil {
		t.Error(err)
	}
	for name, from := range map[string]*exec.Cmd{
		"the network between":    bed.Command(ctx, "curl", "-s", "-m", "20", fmt.Sprintf("http://%v:30080/a", w.east.Node)),
		"another cluster's node": w.west.NodeCommand(ctx, "curl", "-s", "-m", "20", fmt.Sprintf("http://%v:30080/a", w.east.Node)),
	} {
		out, err := from.Output()
		if err := clusterAnswered(string(out), err, "east"); err != nil {
			t.Errorf("from %s: %v", name, err)
		}
	}
}

func TestTheImageRunsAsNobodyAndSaysWhatItIs(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	ctx := t.Context()
	err := w.east.Apply(ctx, `
apiVersion: v1
kind: Namespace
metadata: {name: image}
---
apiVersion: v1
kind: Pod
metadata: {name: version, namespace: image}
spec:
  restartPolicy: Never
  containers:
  - name: isthmus
    image: test/isthmus:dev
    imagePullPolicy: Never
    args: [--version]
    securityContext: {runAsNonRoot: true, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}
`)
	if err != nil {
		t.Fatal(err)
	}
	err = w.east.Eventually(ctx, func(phase string) error {
		if phase != "Succeeded" {
			return fmt.Errorf("the pod is %s", phase)
		}
		return nil
	}, "-n", "image", "get", "pod", "version", "-o", "jsonpath={.status.phase}")
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.east.Kubectl(ctx, "", "-n", "image", "logs", "version")
	if err != nil || !strings.Contains(out, "isthmus") {
		t.Errorf("the program in the image says %q, %v", out, err)
	}
}

// clusterAnswered says what is wrong with an answer of the probe.
func clusterAnswered(out string, err error, cluster string) error {
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	var answer struct{ Cluster string }
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return fmt.Errorf("%w in %q", err, out)
	}
	if answer.Cluster != cluster {
		return fmt.Errorf("%q answered, want %q", answer.Cluster, cluster)
	}
	return nil
}
