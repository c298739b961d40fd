package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/isthmus-mesh/isthmus/internal/kube"
)

// clusterCheck collects what is found out about a Kubernetes cluster.
type clusterCheck struct {
	Server    string   `json:"server"`
	Namespace string   `json:"namespace"`
	Installed bool     `json:"installed"`
	OK        bool     `json:"ok"`
	Faults    []string `json:"faults"`
	Notes     []string `json:"notes"`

	client *kube.Client
}

func (c *clusterCheck) fault(format string, args ...any) {
	c.Faults = append(c.Faults, fmt.Sprintf(format, args...))
}

func (c *clusterCheck) note(format string, args ...any) {
	c.Notes = append(c.Notes, fmt.Sprintf(format, args...))
}

// runCheckKubernetes says what a cluster lacks for Isthmus in namespace. It writes
// nothing there.
func runCheckKubernetes(ctx context.Context, w io.Writer, kubeconfig, namespace string, format output) error {
	client, err := kube.Open(kube.Config{Kubeconfig: cmp.Or(kubeconfig, defaultKubeconfig())})
	if err != nil {
		return err
	}
	c := clusterCheck{Server: client.Server(), Namespace: namespace, Faults: []string{}, Notes: []string{}, client: client}
	if err := c.version(ctx); err != nil {
		return fmt.Errorf("the API server at %s: %w", c.Server, err)
	}
	c.Installed = c.isInstalled(ctx)
	c.kinds(ctx)
	c.nodes(ctx)
	c.secret(ctx)
	if c.Installed {
		c.workloads(ctx)
		c.rights(ctx)
		c.addresses(ctx)
		c.webhook(ctx)
		c.labels(ctx)
	} else {
		c.note("Isthmus is not installed in namespace %s: helm install isthmus configs/helm/isthmus --namespace %[1]s --set cluster=NAME", namespace)
		c.mayInstall(ctx)
	}
	c.dns(ctx)
	c.OK = len(c.Faults) == 0
	good := "nothing stands against Isthmus"
	if c.Installed {
		good = "nothing is wrong with Isthmus"
	}
	return writeFound(w, format, c, c.Faults, c.Notes, fmt.Sprintf("%s: %s in namespace %s", c.Server, good, c.Namespace))
}

// defaultKubeconfig is the one that kubectl takes; empty: this process is in a pod, or
// there is none.
func defaultKubeconfig() string {
	if files := os.Getenv("KUBECONFIG"); files != "" {
		return files
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	path := filepath.Join(home, ".kube", "config")
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// isInstalled reports whether the chart's gateways are there.
func (c *clusterCheck) isInstalled(ctx context.Context) bool {
	_, err := kube.Get[*appsv1.StatefulSet](ctx, c.client, c.Namespace, "isthmus-gateway")
	if err != nil && !apierrors.IsNotFound(err) {
		c.fault("whether Isthmus is installed: %v", err)
	}
	return err == nil
}

// workloads says which of the mesh's own pods do not run.
func (c *clusterCheck) workloads(ctx context.Context) {
	say := func(kind, name string, ready, want int32, err error) {
		switch {
		case err != nil:
			c.fault("%s %s/%s: %v", kind, c.Namespace, name, err)
		case ready == 0 && want > 0:
			c.fault("%s %s/%s has no pod that is ready: kubectl -n %[2]s describe pods -l app.kubernetes.io/component=%[4]s, and logs instead of describe pods", kind, c.Namespace, name, strings.TrimPrefix(name, "isthmus-"))
		case ready < want:
			c.note("%s %s/%s: %d of %d pods are ready", kind, c.Namespace, name, ready, want)
		}
	}
	gateways, err := kube.Get[*appsv1.StatefulSet](ctx, c.client, c.Namespace, "isthmus-gateway")
	say("StatefulSet", "isthmus-gateway", gateways.Status.ReadyReplicas, gateways.Status.Replicas, err)
	for _, name := range []string{"isthmus-ca", "isthmus-webhook"} {
		d, err := kube.Get[*appsv1.Deployment](ctx, c.client, c.Namespace, name)
		say("Deployment", name, d.Status.ReadyReplicas, d.Status.Replicas, err)
	}
	node, err := kube.Get[*appsv1.DaemonSet](ctx, c.client, c.Namespace, "isthmus-node")
	if apierrors.IsNotFound(err) {
		c.note("there is no node agent: pods need the annotation isthmus.io/interception: init, or the chart sidecar.interception=init")
		return
	}
	say("DaemonSet", "isthmus-node", node.Status.NumberReady, node.Status.DesiredNumberScheduled, err)
}

// addresses says which gateways have nothing that other clusters could dial.
func (c *clusterCheck) addresses(ctx context.Context) {
	services, err := kube.List[*corev1.Service](ctx, c.client, c.Namespace)
	if err != nil {
		c.fault("the gateways' Services: %v", err)
		return
	}
	for _, s := range services {
		if strings.HasPrefix(s.Name, "isthmus-gateway-") && s.Spec.Type == corev1.ServiceTypeLoadBalancer &&
			len(s.Status.LoadBalancer.Ingress) == 0 && s.Annotations["isthmus.io/address"] == "" {
			c.fault("Service %s/%s has no load balancer's address, so other clusters cannot dial that gateway: set gateway.service.type=NodePort where the cluster has no load balancers", s.Namespace, s.Name)
		}
	}
}

// dns says whether programs without a sidecar resolve the mesh's names.
func (c *clusterCheck) dns(ctx context.Context) {
	const zone = "clusterset.local"
	config, err := kube.Get[*corev1.ConfigMap](ctx, c.client, "kube-system", "coredns")
	if err != nil {
		c.note("whether programs without a sidecar resolve NAME.NAMESPACE.svc.%s is not known: ConfigMap kube-system/coredns: %v", zone, err)
		return
	}
	for _, file := range config.Data {
		if strings.Contains(file, zone) {
			return
		}
	}
	c.note("CoreDNS does not know %s: programs without a sidecar do not resolve NAME.NAMESPACE.svc.%[1]s until its Corefile says so (docs/kubernetes.md)", zone)
}
