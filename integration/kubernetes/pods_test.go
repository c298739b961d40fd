package kubernetes

import (
	"fmt"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/integration/harness"
)

func TestAJobWithASidecarCompletes(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	ctx := t.Context()
	w.deploy(t, "jobs", "orders", 1, w.east)
	if err := w.east.Apply(ctx, `
apiVersion: batch/v1
kind: Job
metadata: {name: report, namespace: jobs}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: report, image: "test/probe:dev", imagePullPolicy: Never, args: [get, "http://orders.jobs.svc.clusterset.local/report"]}
`); err != nil {
		t.Fatal(err)
	}
	if err := w.east.Eventually(ctx, func(status string) error {
		if !strings.Contains(status, "Complete=True") {
			return fmt.Errorf("the job is not complete")
		}
		return nil
	}, "-n", "jobs", "get", "job", "report", "-o", `jsonpath={range .status.conditions[*]}{.type}={.status} {end}`); err != nil {
		t.Fatal(err)
	}
	out, err := w.east.Kubectl(ctx, "", "-n", "jobs", "logs", "job/report", "-c", "report")
	if err := clusterAnswered(out, err, "east"); err != nil {
		t.Error(err)
	}
	names, err := w.east.Kubectl(ctx, "", "-n", "jobs", "get", "pod", "-l", "job-name=report", "-o", "jsonpath={.items[*].spec.initContainers[*].name}")
	if err != nil || !strings.Contains(names, "isthmus-sidecar") {
		t.Errorf("the job's pod had %q, %v: no sidecar", names, err)
	}
}

func TestAPodWithoutASidecarIsRefusedByStrictInboundAndSomebodySaysWhy(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	ctx := t.Context()
	w.deploy(t, "strict", "orders", 1, w.east)
	if err := w.east.Apply(ctx, `
apiVersion: v1
kind: Namespace
metadata: {name: outside}
---`+client("outside", "stranger", "wait")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.east.Kubectl(ctx, "", "-n", "outside", "wait", "--for=condition=Ready", "pod/stranger", "--timeout=120s"); err != nil {
		t.Fatal(err)
	}
	// By its Service's address and by the pod's own.
	ip, err := w.east.Kubectl(ctx, "", "-n", "strict", "get", "pod", "-l", "app=orders", "-o", "jsonpath={.items[0].status.podIP}")
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{"http://orders.strict.svc.cluster.local/", "http://" + ip + ":8080/"} {
		if out, err := w.east.Exec(ctx, "outside/stranger", "", "/probe", "get", url); err == nil {
			t.Errorf("%s answered a stranger: %s", url, out)
		}
	}
	address, err := w.east.Kubectl(ctx, "", "-n", "outside", "get", "pod", "stranger", "-o", "jsonpath={.status.podIP}")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.east.Eventually(ctx, func(log string) error {
		for line := range strings.Lines(log) {
			if strings.Contains(line, "refused") && strings.Contains(line, address) {
				return nil
			}
		}
		return fmt.Errorf("the sidecar says nothing of %s", address)
	}, "-n", "strict", "logs", "deploy/orders", "-c", "isthmus-sidecar"); err != nil {
		t.Error(err)
	}
}

func TestAnInjectedPodCallsItsOwnClustersNamesByTheMeshAndResolvesTheRest(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	ctx := t.Context()
	w.deploy(t, "names", "orders", 1, w.east, w.west)
	if err := w.east.Apply(ctx, client("names", "caller", "wait")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.east.Kubectl(ctx, "", "-n", "names", "wait", "--for=condition=Ready", "pod/caller", "--timeout=120s"); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"orders.names.svc.cluster.local", "orders.names", "orders"} {
		err := harness.Eventually(func() error {
			out, err := w.east.Exec(ctx, "names/caller", "client", "/probe", "get", "http://"+host+"/")
			if err := clusterAnswered(out, err, "east"); err != nil {
				return err
			}
			if !strings.Contains(out, "URI=spiffe://mesh.test/cluster/east/ns/names/sa/default") {
				return fmt.Errorf("the server does not know who called: %s", out)
			}
			return nil
		})
		if err != nil {
			t.Errorf("http://%s/: %v", host, err)
		}
	}
	out, err := w.east.Exec(ctx, "names/caller", "client", "/probe", "lookup", "kubernetes.default.svc.cluster.local")
	if err != nil || !strings.Contains(out, "10.43.0.1") {
		t.Errorf("kubernetes.default is %q, %v", out, err)
	}
	if out, err := w.east.Exec(ctx, "names/caller", "client", "/probe", "lookup", "nobody.names.svc.cluster.local"); err == nil {
		t.Errorf("a service that does not exist is %q", out)
	}
}
