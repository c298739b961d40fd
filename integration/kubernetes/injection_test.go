package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/integration/kubernetes/bed"
	"github.com/isthmus-mesh/isthmus/internal/inject"
)

// restricted is a pod that PodSecurity's level of that name lets in.
func restricted(namespace, name, more string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - {name: main, image: "test/probe:dev", imagePullPolicy: Never, args: [wait], securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
%s`, name, namespace, more)
}

// injectedOffline runs `isthmus inject` with the configuration of a cluster's webhook.
func (w *world) injectedOffline(t *testing.T, c *bed.Cluster, manifest string) string {
	t.Helper()
	config, err := c.Kubectl(t.Context(), "", "-n", system, "get", "configmap", "isthmus-webhook", "-o", `jsonpath={.data.webhook\.yaml}`)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "webhook.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), w.isthmus, "inject", "-c", file, "-f", "-", "--sidecar-roots", filepath.Join(w.pki(), c.Name, "roots.pem"))
	cmd.Stdin = strings.NewReader(manifest)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("isthmus inject: %v", err)
	}
	return string(out)
}

// dryRun returns a pod as the API server would make it.
func dryRun(ctx context.Context, c *bed.Cluster, manifest string) (*corev1.Pod, error) {
	out, err := c.Kubectl(ctx, manifest, "create", "--dry-run=server", "--validate=strict", "-f", "-", "-o", "json")
	if err != nil {
		return nil, err
	}
	return inject.ParsePod([]byte(out))
}

// specOf returns a pod's spec as text, without what is made up each time.
func specOf(t *testing.T, p *corev1.Pod) string {
	t.Helper()
	slices.SortFunc(p.Spec.Volumes, func(a, b corev1.Volume) int { return strings.Compare(a.Name, b.Name) })
	text, err := json.MarshalIndent(p.Spec, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`kube-api-access-\w+`).ReplaceAllString(string(text), "kube-api-access")
}

func TestInjectedPodsAreStrictlyValidAndTheSameOfflineAndByTheWebhook(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	ctx := t.Context()
	if err := w.east.Apply(ctx, `
apiVersion: v1
kind: Namespace
metadata: {name: injection, labels: {isthmus.io/inject: enabled, pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Namespace
metadata: {name: injection-free}
`); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"workloads.yaml", "nodes.yaml", "list.yaml", "pod.json"} {
		manifest, err := os.ReadFile(filepath.Join("../../internal/inject/manifest/testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		// In a namespace without a webhook, and where PodSecurity asks for nothing, so that it is the
		// offline result that is judged.
		text := regexp.MustCompile(`\b(shop|monitoring)\b`).ReplaceAllString(w.injectedOffline(t, w.east, string(manifest)), "injection-free")
		if _, err := w.east.Kubectl(ctx, text, "-n", "injection-free", "apply", "--dry-run=server", "--validate=strict", "-f", "-"); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}

	pod := restricted("injection", "same", "  initContainers:\n  - {name: first, image: x, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}\n")
	byWebhook, err := dryRun(ctx, w.east, pod)
	if err != nil {
		t.Fatal(err)
	}
	offline, err := dryRun(ctx, w.east, w.injectedOffline(t, w.east, pod))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(specOf(t, byWebhook), specOf(t, offline)); diff != "" {
		t.Errorf("by the webhook -, offline +:\n%s", diff)
	}
	if diff := cmp.Diff(byWebhook.Labels, offline.Labels); diff != "" {
		t.Error(diff)
	}
	if sidecar := byWebhook.Spec.InitContainers[0]; sidecar.Name != "isthmus-sidecar" || slices.ContainsFunc(sidecar.VolumeMounts, func(m corev1.VolumeMount) bool { return strings.HasPrefix(m.Name, "kube-api-access") }) {
		t.Errorf("the first container is %s, and has the program's token for the API server", sidecar.Name)
	}

	optedOut, err := dryRun(ctx, w.east, strings.Replace(pod, "name: same,", "name: same, labels: {isthmus.io/inject: disabled},", 1))
	if err != nil || len(optedOut.Spec.InitContainers) != 1 {
		t.Errorf("a pod that opts out has %d init containers, %v", len(optedOut.Spec.InitContainers), err)
	}
	enabled, err := dryRun(ctx, w.east, strings.Replace(restricted("injection-free", "p", ""), "name: p,", "name: p, labels: {isthmus.io/inject: enabled},", 1))
	if err != nil || len(enabled.Spec.InitContainers) != 1 {
		t.Errorf("a pod that asks for a sidecar in a namespace without the label has %d init containers, %v", len(enabled.Spec.InitContainers), err)
	}
	host, err := dryRun(ctx, w.east, strings.Replace(restricted("injection-free", "p", "  hostNetwork: true\n"), "name: p,", "name: p, labels: {isthmus.io/inject: enabled},", 1))
	if err != nil || len(host.Spec.InitContainers) != 0 || !strings.Contains(host.Annotations["isthmus.io/not-injected"], "hostNetwork") {
		t.Errorf("a pod of the host's network: %v, annotations %v", err, host.Annotations)
	}
	if _, err := dryRun(ctx, w.east, strings.Replace(pod, "runAsUser: 1000", "runAsUser: 15000", 1)); err == nil || !strings.Contains(err.Error(), "spec.securityContext.runAsUser is 15000") {
		t.Errorf("a pod with the sidecar's user: %v", err)
	}
}

// It is alone with its cluster: others need the webhook.
func TestWithoutAWebhookPodsDoNotStartOrSaySoByChoice(t *testing.T) {
	w := theWorld(t)
	ctx := t.Context()
	c := w.north
	kubectl := func(args ...string) {
		t.Helper()
		if _, err := c.Kubectl(ctx, "", args...); err != nil {
			t.Fatal(err)
		}
	}
	policy := func(to string) {
		t.Helper()
		kubectl("patch", "mutatingwebhookconfiguration", "isthmus", "--type=json", "-p", fmt.Sprintf(
			`[{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": %q}, {"op": "replace", "path": "/webhooks/1/failurePolicy", "value": %[1]q}]`, to))
	}
	if err := c.Apply(ctx, "apiVersion: v1\nkind: Namespace\nmetadata: {name: lone, labels: {isthmus.io/inject: enabled}}\n"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		policy("Fail")
		kubectl("-n", system, "scale", "deploy/isthmus-webhook", "--replicas=2")
		if err := c.Rollout(ctx, system, "deploy/isthmus-webhook"); err != nil {
			t.Error(err)
		}
	}()

	// A rolling restart answers every question: with Ignore one that nobody answers would be a pod
	// without a sidecar.
	policy("Ignore")
	kubectl("-n", system, "rollout", "restart", "deploy/isthmus-webhook")
	done := make(chan error, 1)
	go func() { done <- c.Rollout(ctx, system, "deploy/isthmus-webhook") }()
	asked := 0
	for rolling := true; rolling; asked++ {
		p, err := dryRun(ctx, c, restricted("lone", "asked", ""))
		if err != nil || len(p.Spec.InitContainers) != 1 {
			t.Errorf("question %d during a restart of the webhook: %v, pod %v", asked, err, p != nil)
		}
		select {
		case err := <-done:
			if rolling = false; err != nil {
				t.Fatal(err)
			}
		default:
		}
	}
	t.Logf("%d questions during a restart", asked)

	policy("Fail")
	kubectl("-n", system, "scale", "deploy/isthmus-webhook", "--replicas=0")
	if err := c.Eventually(ctx, func(pods string) error {
		if pods != "" {
			return fmt.Errorf("a webhook is still there")
		}
		return nil
	}, "-n", system, "get", "pods", "-l", "app.kubernetes.io/component=webhook", "-o", "name", "--request-timeout=10s"); err != nil {
		t.Fatal(err)
	}
	err := harness.Eventually(func() error { // API servers have the last policy within moments
		_, err := dryRun(ctx, c, restricted("lone", "refused", ""))
		if err == nil || !strings.Contains(err.Error(), "isthmus.io") {
			return fmt.Errorf("a pod without an answer, with Fail: %w", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	policy("Ignore")
	if err := harness.Eventually(func() error { return c.Apply(ctx, restricted("lone", "plain", "")) }); err != nil {
		t.Fatal(err)
	}
	kubectl("-n", system, "scale", "deploy/isthmus-webhook", "--replicas=1")
	if err := c.Eventually(ctx, func(events string) error {
		if !strings.Contains(events, "runs outside of the mesh") {
			return fmt.Errorf("there is no event about the pod without a sidecar")
		}
		return nil
	}, "-n", "lone", "get", "events", "--field-selector", "involvedObject.name=plain"); err != nil {
		t.Error(err)
	}
}
