package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

// webhookFile writes a webhook.yaml with a mesh's roots beside it.
func webhookFile(t *testing.T, dir, more string) string {
	t.Helper()
	roots := filepath.Join(identitytest.New(t, "mesh.example").GatewayDir("west", "west-1"), "roots.pem")
	file := filepath.Join(dir, "webhook.yaml")
	text := "sidecar: {cluster: west, image: i, gateways: [g], ca: [ca], roots: " + roots + more + "}\nlisten: {webhook: '127.0.0.1:0', admin: '127.0.0.1:0'}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestInjectWritesAllFilesOrNone(t *testing.T) {
	dir := t.TempDir()
	config := webhookFile(t, dir, "")
	for name, text := range map[string]string{
		"good.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: good}\nspec:\n  containers: [{name: a, image: b}]",
		"bad.yaml":  "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {securityContext: {runAsUser: 15000}}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		code := Main(append([]string{"inject", "-c", config}, args...), &out, &errs)
		return code, out.String(), errs.String()
	}
	good := filepath.Join(dir, "good.yaml")
	code, out, errs := run("-f", good, "-f", good, "--sidecar-image", "other")
	if code != 0 || strings.Count(out, "\n---\n") != 1 || strings.Count(out, "image: other") != 2 || errs != "Pod good: injected\nPod good: injected\n" {
		t.Errorf("%d: %s%s", code, errs, out)
	}
	if code, out, errs := run("-f", good, "-f", filepath.Join(dir, "bad.yaml")); code != 1 || out != "" || !strings.Contains(errs, "Pod bad: spec.securityContext.runAsUser is 15000") {
		t.Errorf("%d: %s%s", code, errs, out)
	}
	if code, _, errs := run(); code != 2 || !strings.Contains(errs, "which manifests?") {
		t.Errorf("%d: %s", code, errs)
	}
}

func TestCheckKnowsAWebhook(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	if code := Main([]string{"check", "-c", webhookFile(t, dir, "")}, &out, &out); code != 0 || !strings.Contains(out.String(), "nothing is wrong with this webhook") {
		t.Errorf("%d: %s", code, out.String())
	}
	out.Reset()
	if code := Main([]string{"check", "-c", webhookFile(t, dir, ", inbound: off, limits: {memory: lots}")}, &out, &out); code != 1 ||
		!strings.Contains(out.String(), "sidecar.inbound: \"off\" is no choice: write strict or permissive") {
		t.Errorf("%d: %s", code, out.String())
	}
	out.Reset()
	if code := Main([]string{"check", "-c", webhookFile(t, dir, ", limits: {memory: lots}")}, &out, &out); code != 1 ||
		!strings.Contains(out.String(), "webhook.yaml:1: sidecar.limits.memory: \"lots\" is no amount") {
		t.Errorf("%d: %s", code, out.String())
	}
}
