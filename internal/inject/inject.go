package inject

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// Injector gives pods their sidecars. It is immutable.
type Injector struct {
	cfg          *config.Injection
	fingerprints string
}

// New returns an injector of what cfg says; pods trust the roots with these fingerprints at
// first. The error is a [config.KeyError].
func New(cfg *config.Injection, roots []identity.Fingerprint) (*Injector, error) {
	var list []string
	for _, f := range roots {
		list = append(list, f.String())
	}
	_, err := settingsOf(cfg, false, nil)
	return &Injector{cfg, strings.Join(list, ",")}, err
}

// Open is [New] with the roots that cfg names, read from their file.
func Open(cfg *config.Injection) (*Injector, error) {
	roots, err := identity.ReadFingerprints(cfg.Roots)
	if err != nil {
		return nil, &config.KeyError{Key: "sidecar.roots", Problem: err.Error()}
	}
	return New(cfg, roots)
}

// Equal reports whether both do the same to every pod.
func (i *Injector) Equal(other *Injector) bool {
	return i.fingerprints == other.fingerprints && reflect.DeepEqual(i.cfg, other.cfg)
}

// Result is what becomes of a pod that is not refused.
type Result struct {
	Patch   []Operation // empty: it stays as it is
	Skipped string      // why it gets no sidecar; empty: it has one now
}

// Pod returns what gives p its sidecar, and p's identity is nobody's business here. An error
// is for p's owner: why p is refused, and what to write.
func (i *Injector) Pod(p *corev1.Pod) (Result, error) {
	switch label := p.Labels[InjectLabel]; label {
	case "", Enabled:
	case Disabled:
		return Result{Skipped: "label " + InjectLabel + " is " + Disabled}, nil
	default:
		return Result{}, fmt.Errorf("label %s is %q: write %s or %s", InjectLabel, label, Enabled, Disabled)
	}
	if reason := cannotHaveOne(p); reason != "" {
		return skip(p, reason), nil
	}
	if hasSidecar(p) {
		return Result{Patch: setKeys(p.Labels, map[string]string{SidecarLabel: "true"}, "metadata", "labels")}, nil
	}
	s, err := settingsOf(i.cfg, p.Spec.Resources != nil, p.Annotations)
	if err != nil {
		return Result{}, err
	}
	if err := refusal(p, s); err != nil {
		return Result{}, err
	}
	probes, rewritten := rewriteProbes(p)
	first := []corev1.Container{i.sidecar(s, probes)}
	if s.Interception == config.ByInit {
		first = slices.Insert(first, 0, i.interceptor(s))
	}
	patch := rewritten // before the places of containers change
	patch = append(patch, setKeys(p.Labels, map[string]string{SidecarLabel: "true"}, "metadata", "labels")...)
	patch = append(patch, setKeys(p.Annotations, map[string]string{interceptionAnnotation: string(s.Interception)}, "metadata", "annotations")...)
	patch = append(patch, removeKeys(p.Annotations, []string{"metadata", "annotations"}, NotInjectedAnnotation)...)
	patch = append(patch, prepend(len(p.Spec.InitContainers), first, "spec", "initContainers")...)
	patch = append(patch, appendTo(len(p.Spec.Volumes), volumes(), "spec", "volumes")...)
	return Result{Patch: patch}, nil
}

// skip leaves p without a sidecar, and says why in an annotation. A label that says that it
// has one would have callers look for it.
func skip(p *corev1.Pod, reason string) Result {
	patch := setKeys(p.Annotations, map[string]string{NotInjectedAnnotation: reason}, "metadata", "annotations")
	return Result{Patch: append(patch, removeKeys(p.Labels, []string{"metadata", "labels"}, SidecarLabel)...), Skipped: reason}
}

// hasSidecar reports whether p has been injected, by whichever version.
func hasSidecar(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == SidecarContainer && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	})
}

// architectures are those that the image is built for.
func architectures() []string { return []string{"amd64", "arm64"} }

// cannotHaveOne says why no sidecar can be beside p's program, or "".
func cannotHaveOne(p *corev1.Pod) string {
	arch := p.Spec.NodeSelector[corev1.LabelArchStable]
	switch {
	case p.Annotations[corev1.MirrorPodAnnotationKey] != "":
		return "it is a mirror of a node's static pod, which the API server cannot change"
	case p.Spec.HostNetwork:
		return "hostNetwork: it has no network of its own whose connections could be captured"
	case p.Spec.OS != nil && p.Spec.OS.Name != corev1.Linux:
		return fmt.Sprintf("spec.os.name is %s: sidecars run on linux", p.Spec.OS.Name)
	case p.Spec.NodeSelector[corev1.LabelOSStable] != "" && p.Spec.NodeSelector[corev1.LabelOSStable] != string(corev1.Linux):
		return fmt.Sprintf("nodeSelector %s is %s: sidecars run on linux", corev1.LabelOSStable, p.Spec.NodeSelector[corev1.LabelOSStable])
	case arch != "" && !slices.Contains(architectures(), arch):
		return fmt.Sprintf("nodeSelector %s is %s: sidecars run on %s", corev1.LabelArchStable, arch, strings.Join(architectures(), " and "))
	}
	return ""
}

// allAddresses reports whether no name is among these host:port.
func allAddresses(lists ...[]string) bool {
	return !slices.ContainsFunc(slices.Concat(lists...), func(s string) bool { _, err := netip.ParseAddrPort(s); return err != nil })
}

// refusal says everything about p that would not work beside a sidecar.
func refusal(p *corev1.Pod, s *settings) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c := p.Spec.SecurityContext; c != nil && c.RunAsUser != nil && *c.RunAsUser == UID {
		fault("spec.securityContext.runAsUser is %d, the sidecar's: what that user sends is not captured; write another", UID)
	}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if c.Name == SidecarContainer || c.Name == InitContainer {
			fault("a container of the pod is called %s: give it another name", c.Name)
		}
		if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil && *c.SecurityContext.RunAsUser == UID {
			fault("container %s has runAsUser %d, the sidecar's: what that user sends is not captured; write another", c.Name, UID)
		}
		for _, port := range c.Ports {
			if use, ok := sidecarPorts()[port.ContainerPort]; ok && (port.Protocol == "" || port.Protocol == corev1.ProtocolTCP) {
				fault("container %s has port %d, at which the sidecar takes %s: write another", c.Name, port.ContainerPort, use)
			}
		}
	}
	for _, v := range p.Spec.Volumes {
		if v.Name == stateVolume || v.Name == tokenVolume {
			fault("a volume of the pod is called %s: give it another name", v.Name)
		}
	}
	if p.Spec.DNSPolicy == corev1.DNSDefault && !allAddresses(s.Gateways, s.CA) {
		fault("spec.dnsPolicy is Default: the sidecar would not find the gateways, whose names the cluster's DNS knows; write ClusterFirst")
	}
	if p.Spec.HostUsers != nil && !*p.Spec.HostUsers && s.Interception == config.ByNode {
		fault("spec.hostUsers is false: the node's agent could not tell the sidecar by its user; remove it, or write annotation %s: %s", interceptionAnnotation, config.ByInit)
	}
	if p.Annotations[prefix+"on-failure"] != "" && s.Interception == config.ByInit {
		fault("annotation %son-failure is of no use with interception %s: remove it, or write %s: %s", prefix, config.ByInit, interceptionAnnotation, config.ByNode)
	}
	return errors.Join(faults...)
}
