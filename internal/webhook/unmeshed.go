package webhook

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/internal/inject"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// unmeshedReason and unmeshedMessage are the Event of a pod that was to have a sidecar.
const (
	unmeshedReason  = "NoSidecar"
	unmeshedMessage = "The pod runs outside of the mesh: it was made while no webhook answered, or before the label " +
		inject.InjectLabel + ". Make it again: kubectl rollout restart of what owns it."
)

// trimPod keeps what [unmeshed] reads, and what an Event needs.
func trimPod(p *corev1.Pod) {
	p.ObjectMeta = metav1.ObjectMeta{
		Name: p.Name, Namespace: p.Namespace, UID: p.UID, ResourceVersion: p.ResourceVersion, Labels: p.Labels, DeletionTimestamp: p.DeletionTimestamp,
		Annotations: only(p.Annotations, inject.NotInjectedAnnotation, corev1.MirrorPodAnnotationKey),
	}
	p.Spec, p.Status = corev1.PodSpec{HostNetwork: p.Spec.HostNetwork}, corev1.PodStatus{Phase: p.Status.Phase}
}

func only(m map[string]string, keys ...string) map[string]string {
	var kept map[string]string
	for _, key := range keys {
		if v, ok := m[key]; ok {
			if kept == nil {
				kept = map[string]string{}
			}
			kept[key] = v
		}
	}
	return kept
}

func trimNamespace(n *corev1.Namespace) {
	n.ObjectMeta = metav1.ObjectMeta{Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion, Labels: n.Labels}
	n.Spec, n.Status = corev1.NamespaceSpec{}, corev1.NamespaceStatus{}
}

// unmeshed returns those of the pods that are to have a sidecar and could have one. All of
// pods have none; namespaces are those with the label.
func unmeshed(pods []*corev1.Pod, namespaces []*corev1.Namespace, own string) []*corev1.Pod {
	enabled := map[string]bool{}
	for _, n := range namespaces {
		enabled[n.Name] = n.Labels[inject.InjectLabel] == inject.Enabled
	}
	return slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool {
		label := p.Labels[inject.InjectLabel]
		return label != inject.Enabled && (label == inject.Disabled || !enabled[p.Namespace]) ||
			p.Namespace == own || p.Namespace == metav1.NamespaceSystem || p.Namespace == metav1.NamespacePublic || p.Namespace == corev1.NamespaceNodeLease ||
			p.Spec.HostNetwork || p.Annotations[inject.NotInjectedAnnotation] != "" || p.Annotations[corev1.MirrorPodAnnotationKey] != "" ||
			p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	})
}

// runUnmeshed has every replica count the pods without a sidecar, and the one that holds
// the lease tell their owners, until ctx ends.
func (w *Webhook) runUnmeshed(ctx context.Context) error {
	for {
		pods, podsPast := w.pods.Snapshot()
		namespaces, namespacesPast := w.namespaces.Snapshot()
		held, heldPast := w.lease.Held()
		if pods != nil && namespaces != nil {
			without := unmeshed(pods, namespaces, w.namespace)
			w.metrics.unmeshed.Set(float64(len(without)))
			for _, p := range without {
				if held {
					w.kube.Event(p, true, unmeshedReason, unmeshedMessage) // at most once an hour
				}
			}
		}
		if !state.Await(ctx, podsPast, namespacesPast, heldPast) {
			return nil
		}
	}
}
