package node

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/isthmus-mesh/isthmus/interception"
)

// What a pod says of itself. The webhook leaves the label on every pod that it gives a
// sidecar.
const (
	sidecarLabel      = "isthmus.io/sidecar"
	wayAnnotation     = "isthmus.io/interception"
	excludeAnnotation = "isthmus.io/exclude-inbound-ports"
	failureAnnotation = "isthmus.io/on-failure"
)

// maxExcluded bounds the ports of a pod whose callers pass.
const maxExcluded = 64

// request is what a pod is to have.
type request struct {
	pod       *corev1.Pod
	excluded  []uint16
	onFailure interception.OnFailure
	probed    []uint16 // ports at which the kubelet asks by network
}

// trim keeps what is read here of a pod.
func trim(p *corev1.Pod) {
	keep := map[string]string{}
	for _, key := range []string{wayAnnotation, excludeAnnotation, failureAnnotation} {
		if v, ok := p.Annotations[key]; ok {
			keep[key] = v
		}
	}
	p.ManagedFields, p.OwnerReferences, p.Annotations = nil, nil, keep
	probes := func(all []corev1.Container) (with []corev1.Container) {
		for _, c := range all {
			if c.StartupProbe != nil || c.LivenessProbe != nil || c.ReadinessProbe != nil || c.Lifecycle != nil {
				with = append(with, corev1.Container{Ports: c.Ports, StartupProbe: c.StartupProbe, LivenessProbe: c.LivenessProbe, ReadinessProbe: c.ReadinessProbe, Lifecycle: c.Lifecycle})
			}
		}
		return with
	}
	p.Spec = corev1.PodSpec{HostNetwork: p.Spec.HostNetwork, HostUsers: p.Spec.HostUsers, InitContainers: probes(p.Spec.InitContainers), Containers: probes(p.Spec.Containers)}
	p.Status = corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP}
}

// ended reports whether no container of a pod will run any more.
func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// wanted returns the pods that are to be captured by the agent. What is wrong with one is
// told, and the rest of what it says counts.
func wanted(pods []*corev1.Pod) (all map[types.UID]request, faults map[types.UID]error) {
	all, faults = map[types.UID]request{}, map[types.UID]error{}
	for _, p := range pods {
		if ended(p) || p.Labels[sidecarLabel] != "true" || p.Annotations[wayAnnotation] == "init" {
			continue
		}
		if p.Spec.HostNetwork {
			faults[p.UID] = fmt.Errorf("a pod with hostNetwork cannot be captured: its ports are its node's; take the label %s off", sidecarLabel)
			continue
		}
		r := request{pod: p, onFailure: interception.OnFailure("closed"), probed: probedPorts(p)}
		switch v := p.Annotations[failureAnnotation]; v {
		case "", "closed":
		case "open":
			r.onFailure = "open"
		default:
			faults[p.UID] = fmt.Errorf("annotation %s: %q is no choice: write closed or open; it is closed", failureAnnotation, v)
		}
		var err error
		if r.excluded, err = ports(p.Annotations[excludeAnnotation]); err != nil {
			faults[p.UID] = fmt.Errorf("annotation %s: %w", excludeAnnotation, err)
		}
		all[p.UID] = r
	}
	return all, faults
}

// probedPorts returns the ports of a pod at which the kubelet asks by network, as its containers say.
func probedPorts(p *corev1.Pod) (all []uint16) {
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		var asked []intstr.IntOrString
		get := func(g *corev1.HTTPGetAction) {
			if g != nil && g.Host == "" {
				asked = append(asked, g.Port)
			}
		}
		for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
			if probe == nil {
				continue
			}
			get(probe.HTTPGet)
			if s := probe.TCPSocket; s != nil && s.Host == "" {
				asked = append(asked, s.Port)
			}
			if g := probe.GRPC; g != nil {
				asked = append(asked, intstr.FromInt32(g.Port))
			}
		}
		if c.Lifecycle != nil {
			for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
				if h != nil {
					get(h.HTTPGet)
				}
			}
		}
		for _, port := range asked {
			n := port.IntValue()
			for _, named := range c.Ports {
				if port.Type == intstr.String && named.Name == port.StrVal {
					n = int(named.ContainerPort)
				}
			}
			if n > 0 && n <= 65535 && !slices.Contains(all, uint16(n)) {
				all = append(all, uint16(n))
			}
		}
	}
	return all
}

// ports reads "9090,9091"; those that are right count, also with an error.
func ports(list string) (all []uint16, err error) {
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		n, parseErr := strconv.ParseUint(part, 10, 16)
		switch {
		case parseErr != nil || n == 0:
			err = fmt.Errorf("%q is no port: write numbers, as 9090,9091", part)
		case len(all) == maxExcluded:
			return all, fmt.Errorf("at most %d ports count", maxExcluded)
		default:
			all = append(all, uint16(n))
		}
	}
	return all, err
}
