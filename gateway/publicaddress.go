package gateway

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/internal/hostport"
	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// addressAnnotation is on a Service and says what other clusters dial, where Kubernetes
// does not know it.
const addressAnnotation = "isthmus.io/address"

// podRetry is the pause between two questions for the own pod.
const podRetry = 2 * time.Second

// publicAddress returns what other clusters dial to reach the gateway in pod behind
// service: host:port. Without one it says why.
func publicAddress(service *corev1.Service, pod *corev1.Pod) (address, why string) {
	if service == nil {
		return "", "there is no Service " + pod.Namespace + "/" + pod.Name
	}
	name := service.Namespace + "/" + service.Name
	port := tunnelPort(service)
	if port == nil {
		return "", "Service " + name + " has no port over UDP"
	}
	join := func(host string, port int32) (string, string) {
		return net.JoinHostPort(host, strconv.Itoa(int(port))), ""
	}
	if said := service.Annotations[addressAnnotation]; said != "" {
		a, err := hostport.Parse(said)
		if err != nil || a.Host == "" || a.Everywhere() {
			return "", fmt.Sprintf("Service %s: annotation %s: %q cannot be dialled: write host:port", name, addressAnnotation, said)
		}
		if a.Port < 0 {
			a.Port = int(port.Port)
		}
		return a.String(), ""
	}
	switch service.Spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		for _, ingress := range service.Status.LoadBalancer.Ingress {
			if host := cmp.Or(ingress.IP, ingress.Hostname); host != "" {
				return join(host, port.Port)
			}
		}
		return "", "Service " + name + " has no load balancer's address yet: install with gateway.service.type=NodePort where the cluster has no load balancers"
	case corev1.ServiceTypeNodePort:
		switch {
		case port.NodePort == 0:
			return "", "Service " + name + " has no node port yet"
		case pod.Status.HostIP == "":
			return "", "the node of pod " + name + " has no address yet"
		}
		return join(pod.Status.HostIP, port.NodePort)
	}
	if pod.Status.PodIP == "" {
		return "", "pod " + name + " has no address yet"
	}
	return join(pod.Status.PodIP, cmp.Or(port.TargetPort.IntVal, port.Port))
}

// tunnelPort is the port of service over UDP, of which it has one.
func tunnelPort(service *corev1.Service) *corev1.ServicePort {
	for i := range service.Spec.Ports {
		if p := &service.Spec.Ports[i]; p.Protocol == corev1.ProtocolUDP {
			return p
		}
	}
	return nil
}

// followPublicAddress tells other gateways what they may dial to reach this one, whenever
// that changes. While there is nothing the gateway works, and dials them.
func (g *Gateway) followPublicAddress(ctx context.Context) error {
	pod := g.ownPod(ctx)
	if pod == nil {
		return nil
	}
	var told, said string
	for {
		all, past := g.kubernetes.public.Snapshot()
		if all != nil {
			var service *corev1.Service
			if len(all) > 0 {
				service = all[0]
			}
			address, why := publicAddress(service, pod)
			if why == "" && address != told {
				if err := g.federation.SetAdvertise(address); err != nil {
					why = err.Error()
				} else {
					told = address
					g.log.Info("other clusters are told what to dial", "addr", address)
				}
			}
			if why != "" && why != said {
				g.log.Warn("other clusters cannot be told what to dial", "err", why)
				g.kubernetes.client.Event(pod, true, "NoAddress", "Other clusters cannot be told what to dial: "+why+".")
			}
			said = why
			g.noPublicAddress.Store(&why)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-past:
		}
	}
}

// ownPod asks for the pod that this process is in, until it is there; nil: ctx ended.
func (g *Gateway) ownPod(ctx context.Context) *corev1.Pod {
	k, said := g.kubernetes.client, ""
	for {
		pod, err := kube.Get[*corev1.Pod](ctx, k, k.Namespace(), string(g.cfg.Name))
		if err == nil {
			return pod
		}
		why := "the pod after which this gateway is named: " + err.Error()
		if why != said && ctx.Err() == nil {
			g.log.Warn("other clusters cannot be told what to dial yet", "err", why)
			said = why
		}
		g.noPublicAddress.Store(&why)
		if !state.Pause(ctx, podRetry) {
			return nil
		}
	}
}

// addressUnknown says why other clusters are not told what to dial; empty: they are, or
// the configuration says it.
func (g *Gateway) addressUnknown() string {
	if !g.cfg.Kubernetes.Advertise {
		return ""
	}
	if why := g.noPublicAddress.Load(); why != nil {
		return *why
	}
	return "the API server has not answered yet"
}
