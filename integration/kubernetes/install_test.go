package kubernetes

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/integration/kubernetes/bed"
)

// system is the namespace that the chart is installed in.
const system = "isthmus-system"

// gatewayPorts are the node ports of a cluster's two gateways.
var gatewayPorts = []int{30743, 30744}

// authorities makes the mesh's root and an intermediate for each cluster, the plain
// machines' too.
func (w *world) authorities(ctx context.Context) error {
	commands := [][]string{{"pki", "init", "--trust-domain", "mesh.test"}, {"pki", "cluster", "machines"}}
	for _, c := range w.named() {
		commands = append(commands, []string{"pki", "cluster", c.name})
	}
	for _, argv := range commands {
		if _, err := harness.Isthmus(w.isthmus, append(argv, "-d", w.pki())...); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) pki() string { return filepath.Join(w.dir, "pki") }

// install installs the mesh as a user does: the Secret of the cluster's intermediate,
// and the chart, which joins the gateways of the other clusters.
func (w *world) install(ctx context.Context, c *bed.Cluster) error {
	if _, err := c.Kubectl(ctx, "", "create", "namespace", system); err != nil {
		return err
	}
	secret := []string{"-n", system, "create", "secret", "generic", "isthmus-ca"}
	for _, file := range []string{"ca.pem", "ca-key.pem", "roots.pem"} {
		secret = append(secret, "--from-file", filepath.Join(w.pki(), c.Name, file))
	}
	if _, err := c.Kubectl(ctx, "", secret...); err != nil {
		return err
	}
	var join []string
	for _, other := range w.clusters() {
		if other != c {
			join = append(join, fmt.Sprintf("%v:%d", other.Node, gatewayPorts[0]))
		}
	}
	_, err := c.Helm(ctx, "install", "isthmus", w.chart(), "-n", system,
		"--set", "cluster="+c.Name,
		"--set", "join={"+strings.Join(join, ",")+"}",
		"--set", "image.repository=test/isthmus", "--set", "image.tag=dev", "--set", "image.pullPolicy=Never",
		"--set", "gateway.service.type=NodePort",
		"--set", fmt.Sprintf("gateway.service.nodePorts={%d,%d}", gatewayPorts[0], gatewayPorts[1]))
	if err != nil {
		return err
	}
	for _, part := range []string{"deploy/isthmus-ca", "statefulset/isthmus-gateway", "deploy/isthmus-webhook", "daemonset/isthmus-node"} {
		if err := c.Rollout(ctx, system, part); err != nil {
			logs, _ := c.Kubectl(ctx, "", "-n", system, "logs", part, "--tail", "5")
			return fmt.Errorf("%w\nits log ends so:\n%s", err, logs)
		}
	}
	return resolveClusterset(ctx, c)
}

// resolveClusterset has the cluster's DNS answer for clusterset.local, as docs/kubernetes.md
// tells users to.
func resolveClusterset(ctx context.Context, c *bed.Cluster) error {
	config, err := c.Kubectl(ctx, "", "-n", "kube-system", "get", "configmap", "coredns", "-o", "yaml")
	if err != nil {
		return err
	}
	const before = "kubernetes cluster.local in-addr.arpa ip6.arpa {"
	if !strings.Contains(config, before) {
		return fmt.Errorf("the Corefile is another one: %s", config)
	}
	config = strings.Replace(config, before, "kubernetes cluster.local clusterset.local in-addr.arpa ip6.arpa {\n            multicluster clusterset.local", 1)
	if err := c.Apply(ctx, config); err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "", "-n", "kube-system", "rollout", "restart", "deploy/coredns"); err != nil {
		return err
	}
	return c.Rollout(ctx, "kube-system", "deploy/coredns")
}

// chart is the directory of the chart in the source.
func (w *world) chart() string { return "../../configs/helm/isthmus" }
