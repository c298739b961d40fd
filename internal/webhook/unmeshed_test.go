package webhook

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/internal/inject"
)

func TestPodsThatWereToHaveASidecarAreFound(t *testing.T) {
	pod := func(namespace, name string, change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{}, Annotations: map[string]string{"other": "x"}}}
		if change != nil {
			change(p)
		}
		trimPod(p)
		return p
	}
	label := func(v string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Labels[inject.InjectLabel] = v } }
	pods := []*corev1.Pod{
		pod("shop", "found", nil),
		pod("shop", "opted-out", label(inject.Disabled)),
		pod("shop", "host", func(p *corev1.Pod) { p.Spec.HostNetwork = true }),
		pod("shop", "told", func(p *corev1.Pod) { p.Annotations[inject.NotInjectedAnnotation] = "why" }),
		pod("shop", "done", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
		pod("shop", "going", func(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.Now()) }),
		pod("shop", "mirror", func(p *corev1.Pod) { p.Annotations[corev1.MirrorPodAnnotationKey] = "x" }),
		pod("other", "plain", nil),
		pod("other", "found-by-its-own-label", label(inject.Enabled)),
		pod("isthmus-system", "ours", label(inject.Enabled)),
		pod("kube-system", "kubernetes", label(inject.Enabled)),
	}
	namespaces := []*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{inject.InjectLabel: inject.Enabled}}}}
	var names []string
	for _, p := range unmeshed(pods, namespaces, "isthmus-system") {
		names = append(names, p.Name)
	}
	if len(names) != 2 || names[0] != "found" || names[1] != "found-by-its-own-label" {
		t.Errorf("found %v", names)
	}
}
