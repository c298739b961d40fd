package node

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func podWith(uid string, annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: uid, UID: types.UID(uid), Labels: map[string]string{sidecarLabel: "true"}, Annotations: annotations,
	}}
}

func TestPodsWithASidecarAreWantedUnlessTheyHaveAnotherWayOrHaveEnded(t *testing.T) {
	network, over, bare := podWith("network", nil), podWith("over", nil), podWith("bare", nil)
	network.Spec.HostNetwork = true
	over.Status.Phase = corev1.PodSucceeded
	bare.Labels = nil
	all, faults := wanted([]*corev1.Pod{
		network, over, bare,
		podWith("usual", nil),
		podWith("open", map[string]string{failureAnnotation: "open", excludeAnnotation: "9090, 9091"}),
		podWith("init", map[string]string{wayAnnotation: "init"}),
		podWith("wrong", map[string]string{failureAnnotation: "ajar", excludeAnnotation: "9090,http"}),
	})
	if r, ok := all["usual"]; !ok || r.onFailure != "closed" || len(r.excluded) != 0 {
		t.Errorf("the usual one: %+v, %v", r, ok)
	}
	if r := all["open"]; r.onFailure != "open" || !slices.Equal(r.excluded, []uint16{9090, 9091}) {
		t.Errorf("with annotations: %+v", r)
	}
	if r := all["wrong"]; r.onFailure != "closed" || !slices.Equal(r.excluded, []uint16{9090}) || faults["wrong"] == nil {
		t.Errorf("with wrong annotations: %+v, %v", r, faults["wrong"])
	}
	if err := faults["network"]; err == nil || !strings.Contains(err.Error(), "hostNetwork") {
		t.Errorf("with the node's network: %v", err)
	}
	if len(all) != 3 {
		t.Errorf("%d are wanted, not 3", len(all))
	}
}

func TestOnlyWhatIsReadIsKeptOfAPod(t *testing.T) {
	p := podWith("a", map[string]string{failureAnnotation: "open", "kubectl.kubernetes.io/last-applied-configuration": strings.Repeat("x", 1<<16)})
	p.Spec.Containers = make([]corev1.Container, 3)
	own := false
	p.Spec.HostUsers = &own
	trim(p)
	if p.Size() > 200 || p.Annotations[failureAnnotation] != "open" || p.Spec.HostUsers == nil {
		t.Errorf("%d bytes are kept: %v", p.Size(), p)
	}
}

func TestThePortsAtWhichTheKubeletAsksAreThoseOfProbesByNetwork(t *testing.T) {
	get := func(port intstr.IntOrString, host string) *corev1.HTTPGetAction {
		return &corev1.HTTPGetAction{Port: port, Host: host}
	}
	p := podWith("a", nil)
	p.Spec.InitContainers = []corev1.Container{{StartupProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: get(intstr.FromInt32(15021), "")}}}, {Name: "once"}}
	p.Spec.Containers = []corev1.Container{
		{
			Ports:          []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
			LivenessProbe:  &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: get(intstr.FromString("http"), "")}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("9000")}}},
			Lifecycle:      &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{HTTPGet: get(intstr.FromInt32(8081), "")}},
		},
		{
			StartupProbe:   &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 50051}}},
			LivenessProbe:  &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{}}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: get(intstr.FromString("nobody"), "")}},
			Lifecycle:      &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{HTTPGet: get(intstr.FromInt32(80), "192.0.2.7")}},
		},
	}
	trim(p)
	all, _ := wanted([]*corev1.Pod{p})
	if want := []uint16{15021, 8080, 9000, 8081, 50051}; !slices.Equal(all["a"].probed, want) {
		t.Errorf("%v, want %v", all["a"].probed, want)
	}
}
