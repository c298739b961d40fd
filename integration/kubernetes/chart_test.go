package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/integration/kubernetes/bed"
)

func TestTheChartIsLintedAndTakenByAnAPIServerInAllItsForms(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	ctx := t.Context()
	for name, values := range map[string][]string{
		"the least":         {},
		"node ports":        {"--set", "gateway.service.type=NodePort", "--set", "gateway.service.nodePorts={31743,31744}"},
		"pods' addresses":   {"--set", "gateway.service.type=ClusterIP", "--set", "gateway.service.tcp=false"},
		"names of its own":  {"--set", "gateway.replicas=3", "--set", "gateway.addresses={gw1.west.example:7443,gw2.west.example}"},
		"nothing by choice": {"--set", "node.enabled=false", "--set", "sidecar.interception=init", "--set", "networkPolicy.enabled=false", "--set", "coredns.serviceAccount=", "--set", "gateway.entrance.ports="},
		"much said": {"--set", "join={gw.east.example}", "--set-json", `gateway.imports={"east":["shop"]}`, "--set", "imagePullSecrets[0].name=registry",
			"--set", "webhook.failurePolicy=Ignore", "--set", "sidecar.interception=init", "--set-json", `gateway.nodeSelector={"a":"b"}`,
			"--set-json", `ca.tolerations=[{"operator":"Exists"}]`, "--set", "webhook.priorityClassName=system-cluster-critical"},
	} {
		values = append([]string{w.chart(), "--set", "cluster=west"}, values...)
		if out, err := w.east.Helm(ctx, append([]string{"lint", "--strict"}, values...)...); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
			continue
		}
		out, err := w.east.Helm(ctx, append([]string{"template", "isthmus", "-n", "isthmus-other", "--include-crds"}, values...)...)
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
			continue
		}
		// Into a namespace that is there, so that everything else is judged.
		out = strings.ReplaceAll(out, "namespace: isthmus-other", "namespace: default")
		if _, err := w.east.Kubectl(ctx, out, "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheChartRefusesValuesThatItDoesNotKnowOrThatAreBad(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	for _, c := range []struct{ set, want string }{
		{"cluster=", "/cluster"},
		{"cluster=West", "/cluster"},
		{"cluster=west,join={gw.east.example:port}", "/join/0"},
		{"cluster=west,node.enabled=false", "sidecar.interception=init"},
		{"cluster=west,gatway.replicas=3", "gatway"},
		{"cluster=west,gateway.service.type=ExternalName", "/gateway/service/type"},
		{"cluster=west,gateway.replicas=0", "/gateway/replicas"},
		{"cluster=west,gateway.drain=10", "/gateway/drain"},
		{"cluster=west,sidecar.inbound=open", "/sidecar/inbound"},
	} {
		if out, err := w.east.Helm(t.Context(), "template", "isthmus", w.chart(), "--set", c.set); err == nil || !strings.Contains(err.Error()+out, c.want) {
			t.Errorf("%s: %v, want an error about %s", c.set, err, c.want)
		}
	}
}

// Everything that docs/kubernetes.md says to type is typed, in two clusters that have
// nothing yet, in its order; in the end nothing of Isthmus is left.
func TestEveryCommandOfTheKubernetesGuideWorksAndNothingIsLeft(t *testing.T) {
	w := theBed(t)
	ctx := t.Context()
	east := w.guideCluster(t, "guideeast", 152)
	west := w.guideCluster(t, "guidewest", 153)
	dir := t.TempDir()
	for name, target := range map[string]string{"kubectl": w.bed.Program("kubectl"), "helm": w.bed.Program("helm"), "isthmus": w.isthmus, "../configs": "../../configs"} {
		target, err := filepath.Abs(target)
		if err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(dir, "bin", name)
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "bin"), 0o755), os.Symlink(target, link)); err != nil {
			t.Fatal(err)
		}
	}
	run := func(command string) (string, error) {
		cmd := bed.Command(ctx, "env", "KUBECONFIG="+filepath.Join(dir, "kubeconfig"), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"),
			"bash", "-euo", "pipefail", "-c", command)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for name, c := range map[string]*bed.Cluster{"east": east, "west": west} {
		one, err := os.ReadFile(c.Kubeconfig())
		if err != nil {
			t.Fatal(err)
		}
		one = []byte(strings.ReplaceAll(string(one), c.Name, name))
		if err := os.WriteFile(filepath.Join(dir, name+".conf"), one, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := run("KUBECONFIG=east.conf:west.conf kubectl config view --flatten >kubeconfig"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	guide, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := commandsOf(string(guide))
	if len(commands) < 40 {
		t.Fatalf("the guide has only %d commands", len(commands))
	}
	for _, command := range commands {
		begin := time.Now()
		out, err := run(here(command, east))
		if strings.Contains(command, " curl ") && err != nil { // what was exported a moment ago
			err = harness.Eventually(func() error {
				out, err = run(here(command, east))
				return err
			})
		}
		if err != nil {
			t.Fatalf("%s\n%v: %s", command, err, out)
		}
		t.Logf("%.1fs %s", time.Since(begin).Seconds(), strings.SplitN(command, "\n", 2)[0])
	}
	if err := harness.Eventually(func() error { return nothingLeft(run) }); err != nil {
		t.Error(err)
	}
}

func (w *world) guideCluster(t *testing.T, name string, index int) *bed.Cluster {
	t.Helper()
	ctx := t.Context()
	c, err := w.bed.Start(ctx, name, index, bed.Full)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop(context.WithoutCancel(ctx)) }) // the bed ends what is left
	if err := errors.Join(c.LoadImage(ctx, w.image), c.LoadImage(ctx, w.probeImage), c.Rollout(ctx, "kube-system", "deploy/coredns")); err != nil {
		t.Fatal(err)
	}
	return c
}

var (
	consoleBlock = regexp.MustCompile("(?s)```console\n(.*?)```")
	ordersImage  = regexp.MustCompile(`--context (\w+) .*--image=registry.example/orders:1`)
)

// commandsOf returns what stands behind each prompt of a document, with its further lines.
func commandsOf(document string) (all []string) {
	for _, block := range consoleBlock.FindAllStringSubmatch(document, -1) {
		for _, command := range strings.Split("\n"+block[1], "\n$ ")[1:] {
			all = append(all, strings.TrimRight(command, "\n"))
		}
	}
	return all
}

// here is a command with what the document cannot know: images, and addresses where there
// is no load balancer.
func here(command string, east *bed.Cluster) string {
	command = strings.NewReplacer(
		"gw.east.example:7443", fmt.Sprintf("%v:%d", east.Node, gatewayPorts[0]),
		"registry.example/client:1", "test/probe:dev", "-- sleep 1d", "-- wait", "-- curl -sf", "-- /probe get",
	).Replace(command)
	if strings.HasPrefix(command, "helm install") {
		command += fmt.Sprintf(" --timeout 4m --set image.repository=test/isthmus,image.tag=dev,image.pullPolicy=Never,gateway.service.type=NodePort --set 'gateway.service.nodePorts={%d,%d}'", gatewayPorts[0], gatewayPorts[1])
	}
	if context := ordersImage.FindStringSubmatch(command); context != nil {
		command = strings.Replace(command, "registry.example/orders:1", "test/probe:dev", 1) + " -- /probe serve"
	}
	return command
}

// nothingLeft says what of the mesh is still in the cluster west.
func nothingLeft(run func(string) (string, error)) error {
	out, err := run(`kubectl --context west get crds,clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings,namespaces -o name
kubectl --context west get services,endpointslices,leases,secrets,configmaps,serviceaccounts,pods -A --no-headers -o custom-columns=KIND:.kind,IN:.metadata.namespace,NAME:.metadata.name,LABELS:.metadata.labels`)
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	var left []string
	for line := range strings.Lines(out) {
		if strings.Contains(line, "isthmus") || strings.Contains(line, "multicluster") {
			left = append(left, strings.TrimSpace(line))
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("left in the cluster:\n%s", strings.Join(left, "\n"))
	}
	return nil
}
