package gateway

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
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

// advertiser tells other gateways what they may dial to reach this one, which is in a pod
// behind a Service. Make it with newAdvertiser. Its methods may be called concurrently; run
// once.
type advertiser struct {
	client  *kube.Client
	name    string // of the pod and of its Service
	service *kube.Followed[*corev1.Service]
	log     *slog.Logger

	why atomic.Pointer[string] // nobody is told; empty: they are; nil: not known yet
}

func newAdvertiser(client *kube.Client, name string, log *slog.Logger) (*advertiser, error) {
	service, err := kube.Follow[*corev1.Service](client, kube.Selection{Namespace: client.Namespace(), Fields: "metadata.name=" + name}, nil)
	return &advertiser{client: client, name: name, service: service, log: log}, err
}

// run calls tell with the address, whenever that changes, until ctx ends. While there is none
// the gateway works, and dials the others.
func (a *advertiser) run(ctx context.Context, tell func(address string) error) error {
	pod := a.ownPod(ctx)
	if pod == nil {
		return nil
	}
	var told, said string
	for {
		all, past := a.service.Snapshot()
		if all != nil {
			var service *corev1.Service
			if len(all) > 0 {
				service = all[0]
			}
			address, why := publicAddress(service, pod)
			if why == "" && address != told {
				if err := tell(address); err != nil {
					why = err.Error()
				} else {
					told = address
					a.log.Info("other clusters are told what to dial", "addr", address)
				}
			}
			if why != "" && why != said {
				a.log.Warn("other clusters cannot be told what to dial", "err", why)
				a.client.Event(pod, true, "NoAddress", "Other clusters cannot be told what to dial: "+why+".")
			}
			said = why
			a.why.Store(&why)
		}
		if !state.Await(ctx, past) {
			return nil
		}
	}
}

// ownPod asks for the pod that this process is in, until it is there; nil: ctx ended.
func (a *advertiser) ownPod(ctx context.Context) *corev1.Pod {
	said := ""
	for {
		pod, err := kube.Get[*corev1.Pod](ctx, a.client, a.client.Namespace(), a.name)
		if err == nil {
			return pod
		}
		why := "the pod after which this gateway is named: " + err.Error()
		if why != said && ctx.Err() == nil {
			a.log.Warn("other clusters cannot be told what to dial yet", "err", why)
			said = why
		}
		a.why.Store(&why)
		if !state.Pause(ctx, podRetry) {
			return nil
		}
	}
}

// unknown says why other clusters are not told what to dial; empty: they are.
func (a *advertiser) unknown() string {
	if why := a.why.Load(); why != nil {
		return *why
	}
	return "the API server has not answered yet"
}
