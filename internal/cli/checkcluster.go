package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/internal/kube"
)

// minKubernetes is the first minor version of Kubernetes 1 whose pods have native
// sidecars (1.29), and may sleep before they stop, without a feature gate.
const minKubernetes = 30

// version says whether the API server is new enough. The error is of one that does not
// answer.
func (c *clusterCheck) version(ctx context.Context) error {
	v, err := c.client.Version(ctx)
	if err != nil {
		return err
	}
	if minor, err := strconv.Atoi(strings.TrimRight(v.Minor, "+")); err == nil && v.Major == "1" && minor < minKubernetes {
		c.fault("Kubernetes is %s: Isthmus needs 1.%d or newer", v.GitVersion, minKubernetes)
	}
	return nil
}

// kinds says which of the kinds that are read are not there.
func (c *clusterCheck) kinds(ctx context.Context) {
	for _, k := range []struct {
		gv      schema.GroupVersion
		names   []string
		without string // what does not work; empty: nothing does
	}{
		{schema.GroupVersion{Group: kube.Group, Version: "v1alpha1"}, []string{"services", "authorizationpolicies"}, ""},
		{schema.GroupVersion{Group: "multicluster.x-k8s.io", Version: "v1beta1"}, []string{"serviceexports", "serviceimports"}, ""},
		{schema.GroupVersion{Group: "gateway.networking.k8s.io", Version: "v1"}, []string{"httproutes", "grpcroutes"}, "HTTPRoutes and GRPCRoutes are not read: install the CRDs of the Gateway API for that"},
	} {
		have, err := c.client.Resources(ctx, k.gv)
		if err != nil {
			c.fault("the kinds of %s: %v", k.gv, err)
			continue
		}
		for _, name := range k.names {
			switch {
			case slices.Contains(have, name):
			case k.without == "" && !c.Installed: // the chart brings it
			case k.without != "":
				c.note("the cluster has no %s.%s: %s", name, k.gv, k.without)
			default:
				c.fault("the cluster has no %s.%s: kubectl apply --server-side -f configs/helm/isthmus/crds", name, k.gv)
			}
		}
	}
}

// nodes says which nodes cannot run the node agent or sidecars, as far as they tell.
func (c *clusterCheck) nodes(ctx context.Context) {
	nodes, err := kube.List[*corev1.Node](ctx, c.client, "")
	if err != nil {
		c.note("the nodes: %v", err)
		return
	}
	for _, n := range nodes {
		info := n.Status.NodeInfo
		if info.OperatingSystem != "" && info.OperatingSystem != "linux" {
			c.note("node %s is %s: pods there are not meshed", n.Name, info.OperatingSystem)
			continue
		}
		if major, minor := firstTwo(info.KernelVersion); major > 0 && (major < 5 || major == 5 && minor < 10) {
			c.fault("node %s has Linux %s: the node agent needs 5.10 or newer; install with sidecar.interception=init", n.Name, info.KernelVersion)
		}
		if major, minor := firstTwo(strings.TrimPrefix(info.KubeletVersion, "v")); major == 1 && minor < minKubernetes {
			c.fault("node %s has kubelet %s: Isthmus needs 1.%d or newer", n.Name, info.KubeletVersion, minKubernetes)
		}
	}
}

// firstTwo reads the first two numbers of a version; zeros: it has none.
func firstTwo(version string) (major, minor int) {
	fields := strings.FieldsFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if len(fields) < 2 {
		return 0, 0
	}
	major, err := strconv.Atoi(fields[0])
	if err != nil {
		return 0, 0
	}
	if minor, err = strconv.Atoi(fields[1]); err != nil {
		return 0, 0
	}
	return major, minor
}

// secret says what is wrong with the cluster's intermediate. Nothing of it is shown.
func (c *clusterCheck) secret(ctx context.Context) {
	const name = "isthmus-ca"
	make := fmt.Sprintf("isthmus pki cluster NAME, then kubectl -n %s create secret generic %s --from-file=pki/NAME", c.Namespace, name)
	s, err := kube.Get[*corev1.Secret](ctx, c.client, c.Namespace, name)
	switch {
	case apierrors.IsNotFound(err):
		c.fault("there is no Secret %s/%s with the cluster's intermediate: %s", c.Namespace, name, make)
		return
	case err != nil:
		c.note("Secret %s/%s with the cluster's intermediate: %v", c.Namespace, name, err)
		return
	}
	ends, of, err := checkIntermediate(s.Data, time.Now())
	if err != nil {
		c.fault("Secret %s/%s: %v: %s", c.Namespace, name, err, make)
		return
	}
	if own := c.clusterName(ctx); own != "" && own != of {
		c.fault("Secret %s/%s has the intermediate of cluster %s, and this is cluster %s: put that of pki/%[4]s there, then kubectl -n %[1]s rollout restart deployment isthmus-ca", c.Namespace, name, of, own)
	}
	if left := time.Until(ends); left < soon {
		c.note("the intermediate in Secret %s/%s expires in %s", c.Namespace, name, left.Round(time.Minute))
	}
}

// clusterName is what the chart calls this cluster; empty: it is not known.
func (c *clusterCheck) clusterName(ctx context.Context) string {
	config, err := kube.Get[*corev1.ConfigMap](ctx, c.client, c.Namespace, "isthmus-gateway")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(config.Data["gateway.yaml"]) {
		if name, ok := strings.CutPrefix(line, "cluster: "); ok {
			return strings.Trim(strings.TrimSpace(name), `"`)
		}
	}
	return ""
}

// checkIntermediate says when the intermediate in a Secret's data ends and whose cluster's
// it is, or what is wrong with it.
func checkIntermediate(data map[string][]byte, now time.Time) (ends time.Time, cluster string, err error) {
	for _, key := range []string{"ca.pem", "ca-key.pem", "roots.pem"} {
		if len(data[key]) == 0 {
			return time.Time{}, "", fmt.Errorf("has no %s", key)
		}
	}
	pair, err := tls.X509KeyPair(data["ca.pem"], data["ca-key.pem"])
	if err != nil {
		return time.Time{}, "", fmt.Errorf("ca.pem and ca-key.pem do not fit together: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data["roots.pem"]) {
		return time.Time{}, "", fmt.Errorf("roots.pem has no certificate")
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return time.Time{}, "", fmt.Errorf("ca.pem: %w", err)
	}
	for _, u := range pair.Leaf.URIs { // spiffe://TRUST-DOMAIN/cluster/NAME, and perhaps namespaces
		if fields := strings.Split(u.Path, "/"); len(fields) > 2 && fields[1] == "cluster" {
			return pair.Leaf.NotAfter, fields[2], nil
		}
	}
	return time.Time{}, "", fmt.Errorf("ca.pem is of no cluster")
}

// webhook has the API server ask the webhook about a pod that is not made.
func (c *clusterCheck) webhook(ctx context.Context) {
	config, err := kube.Get[*admissionregistrationv1.MutatingWebhookConfiguration](ctx, c.client, "", "isthmus")
	if err != nil {
		c.fault("MutatingWebhookConfiguration isthmus: %v", err)
		return
	}
	for _, w := range config.Webhooks {
		if len(w.ClientConfig.CABundle) == 0 {
			c.fault("the webhook has not written caBundle into MutatingWebhookConfiguration isthmus: kubectl -n %s logs deploy/isthmus-webhook", c.Namespace)
			return
		}
	}
	pod, err := kube.Try(ctx, c.client, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "isthmus-check", Labels: map[string]string{"isthmus.io/inject": "enabled"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "program", Image: "isthmus-check"}}},
	})
	switch {
	case err != nil:
		c.fault("a pod with a sidecar cannot be made: %v", err)
	case !slices.ContainsFunc(pod.Spec.InitContainers, func(i corev1.Container) bool { return i.Name == "isthmus-sidecar" }):
		c.fault("the webhook gave a pod no sidecar: kubectl -n %s logs deploy/isthmus-webhook", c.Namespace)
	}
}

// labels says which namespaces are labelled for sidecars with a word that nobody reads.
func (c *clusterCheck) labels(ctx context.Context) {
	namespaces, err := kube.List[*corev1.Namespace](ctx, c.client, "")
	if err != nil {
		c.note("the namespaces: %v", err)
		return
	}
	for _, n := range namespaces {
		if v, ok := n.Labels["isthmus.io/inject"]; ok && v != "enabled" && v != "disabled" {
			c.fault("namespace %s is labelled isthmus.io/inject=%s, so its pods get no sidecars: kubectl label --overwrite namespace %[1]s isthmus.io/inject=enabled", n.Name, v)
		}
	}
}

// mayInstall says what of the chart this user may not make.
func (c *clusterCheck) mayInstall(ctx context.Context) {
	for _, r := range []authorizationv1.ResourceAttributes{
		{Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"},
		{Group: "rbac.authorization.k8s.io", Resource: "clusterroles"},
		{Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"},
		{Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations"},
		{Namespace: c.Namespace, Resource: "secrets"},
		{Namespace: c.Namespace, Resource: "services"},
		{Namespace: c.Namespace, Group: "apps", Resource: "statefulsets"},
		{Namespace: c.Namespace, Group: "apps", Resource: "daemonsets"},
	} {
		r.Verb = "create"
		review, err := kube.Create(ctx, c.client, &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &r}})
		if err != nil {
			c.note("what you may make in the cluster: %v", err)
			return
		}
		if !review.Status.Allowed {
			c.fault("you may not create %s, which the chart has: have somebody install it who may", resourceName(r))
		}
	}
}

func resourceName(r authorizationv1.ResourceAttributes) string {
	name := r.Resource
	if r.Group != "" {
		name += "." + r.Group
	}
	if r.Subresource != "" {
		name += "/" + r.Subresource
	}
	if r.Namespace != "" {
		name += " in namespace " + r.Namespace
	}
	return name
}

// rights says what the mesh's service accounts lack.
func (c *clusterCheck) rights(ctx context.Context) {
	for _, a := range []struct {
		account string
		needed  []authorizationv1.ResourceAttributes
	}{
		{"isthmus-gateway", []authorizationv1.ResourceAttributes{
			{Verb: "watch", Resource: "services"}, {Verb: "watch", Resource: "pods"}, {Verb: "watch", Group: "discovery.k8s.io", Resource: "endpointslices"},
			{Verb: "watch", Group: "multicluster.x-k8s.io", Resource: "serviceexports"}, {Verb: "patch", Group: "multicluster.x-k8s.io", Resource: "serviceimports"},
			{Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: c.Namespace, Name: "isthmus-gateway"},
		}},
		{"isthmus-ca", []authorizationv1.ResourceAttributes{{Verb: "create", Group: "authentication.k8s.io", Resource: "tokenreviews"}, {Verb: "get", Resource: "pods"}}},
		{"isthmus-webhook", []authorizationv1.ResourceAttributes{
			{Verb: "update", Resource: "secrets", Namespace: c.Namespace, Name: "isthmus-webhook"},
			{Verb: "update", Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations", Name: "isthmus"},
		}},
		{"isthmus-node", []authorizationv1.ResourceAttributes{{Verb: "watch", Resource: "pods"}}},
	} {
		for _, r := range a.needed {
			review, err := kube.Create(ctx, c.client, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
				User: "system:serviceaccount:" + c.Namespace + ":" + a.account, Groups: []string{"system:serviceaccounts", "system:authenticated"}, ResourceAttributes: &r,
			}})
			if err != nil {
				c.note("what the service accounts may do: %v", err)
				return
			}
			if !review.Status.Allowed {
				c.fault("service account %s/%s may not %s %s: install the chart again", c.Namespace, a.account, r.Verb, resourceName(r))
			}
		}
	}
}
