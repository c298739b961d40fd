package inject

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/isthmus-mesh/isthmus/internal/config"
)

// rewriteProbes has the kubelet ask the sidecar what it would ask the programs of p by network, and
// returns what the sidecar has to ask them then. What they run themselves (exec) stays, as
// does what goes to another host, and what the kubelet could not ask either.
func rewriteProbes(p *corev1.Pod) (all []config.Probe, patch []Operation) {
	of := func(list string, containers []corev1.Container) {
		for i := range containers {
			c := &containers[i]
			r := rewriter{container: c, path: []string{"spec", list, strconv.Itoa(i)}}
			r.probe("startupProbe", c.StartupProbe)
			r.probe("livenessProbe", c.LivenessProbe)
			r.probe("readinessProbe", c.ReadinessProbe)
			if c.Lifecycle != nil {
				r.handler("postStart", c.Lifecycle.PostStart)
				r.handler("preStop", c.Lifecycle.PreStop)
			}
			all, patch = append(all, r.probes...), append(patch, r.patch...)
		}
	}
	of("initContainers", p.Spec.InitContainers)
	of("containers", p.Spec.Containers)
	return all, patch
}

// rewriter is about one container.
type rewriter struct {
	container *corev1.Container
	path      []string // of the container
	probes    []config.Probe
	patch     []Operation
}

func (r *rewriter) probe(name string, p *corev1.Probe) {
	if p == nil {
		return
	}
	switch {
	case p.HTTPGet != nil:
		r.get(p.HTTPGet, name, name)
	case p.TCPSocket != nil && p.TCPSocket.Host == "":
		if r.add(name, config.ProbeTCP, p.TCPSocket.Port, "") {
			r.replace("tcpSocket", name, nil, name)
		}
	case p.GRPC != nil:
		service := ""
		if p.GRPC.Service != nil {
			service = *p.GRPC.Service
		}
		if r.add(name, config.ProbeGRPC, intstr.FromInt32(p.GRPC.Port), service) {
			r.replace("grpc", name, nil, name)
		}
	}
}

func (r *rewriter) handler(name string, h *corev1.LifecycleHandler) {
	if h != nil && h.HTTPGet != nil {
		r.get(h.HTTPGet, name, "lifecycle", name)
	}
}

// get rewrites a request, whose fields stay: the sidecar passes them on.
func (r *rewriter) get(g *corev1.HTTPGetAction, name string, below ...string) {
	if g.Host != "" {
		return
	}
	scheme, path := config.ProbeHTTP, g.Path
	if g.Scheme == corev1.URISchemeHTTPS {
		scheme = config.ProbeHTTPS
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if r.add(name, scheme, g.Port, path) {
		r.replace("httpGet", name, g.HTTPHeaders, below...)
	}
}

// add reports false where the container has no such port.
func (r *rewriter) add(name string, scheme config.ProbeScheme, port intstr.IntOrString, path string) bool {
	n := port.IntVal
	if port.Type == intstr.String {
		n = 0
		for _, p := range r.container.Ports {
			if p.Name == port.StrVal {
				n = p.ContainerPort
			}
		}
		if number, err := strconv.ParseInt(port.StrVal, 10, 32); err == nil { // as the kubelet reads it
			n = int32(number)
		}
	}
	if n < 1 || n > 65535 || n == healthPort { // that is how an injected pod has it
		return false
	}
	r.probes = append(r.probes, config.Probe{Name: r.container.Name + "/" + name, Scheme: scheme, Port: uint16(n), Path: path})
	return true
}

// replace puts a request to the sidecar in the place of what was there.
func (r *rewriter) replace(was, name string, fields []corev1.HTTPHeader, below ...string) {
	at := append(append([]string(nil), r.path...), below...)
	if was != "httpGet" {
		r.patch = append(r.patch, Operation{Op: Remove, Path: append(append([]string(nil), at...), was)})
	}
	r.patch = append(r.patch, Operation{Op: Add, Path: append(append([]string(nil), at...), "httpGet"), Value: &corev1.HTTPGetAction{
		Path: config.ProbesPath + r.container.Name + "/" + name, Port: intstr.FromInt32(healthPort), Scheme: corev1.URISchemeHTTP, HTTPHeaders: fields,
	}})
}
