package gateway

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/google/go-cmp/cmp"
)

func TestOthersDialWhatTheServiceOfAGatewayHas(t *testing.T) {
	ingress := func(all ...corev1.LoadBalancerIngress) func(*corev1.Service) {
		return func(s *corev1.Service) {
			s.Spec.Type, s.Status.LoadBalancer.Ingress = corev1.ServiceTypeLoadBalancer, all
		}
	}
	says := func(address string) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Annotations = map[string]string{addressAnnotation: address} }
	}
	for name, c := range map[string]struct {
		edit func(*corev1.Service)
		want string // an address, or a part of the reason
	}{
		"load balancer's IP":           {ingress(corev1.LoadBalancerIngress{IP: "203.0.113.7"}), "203.0.113.7:7443"},
		"load balancer's IPv6":         {ingress(corev1.LoadBalancerIngress{IP: "2001:db8::7"}), "[2001:db8::7]:7443"},
		"load balancer's name":         {ingress(corev1.LoadBalancerIngress{}, corev1.LoadBalancerIngress{Hostname: "lb.example"}), "lb.example:7443"},
		"load balancer without either": {ingress(), "no load balancer's address yet"},
		"node port": {func(s *corev1.Service) {
			s.Spec.Type, s.Spec.Ports[1].NodePort = corev1.ServiceTypeNodePort, 30743
		}, "10.0.0.1:30743"},
		"node port that is not given yet": {func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }, "no node port yet"},
		"flat network":                    {func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }, "10.42.0.9:7443"},
		"annotation":                      {says("gw1.west.example:17443"), "gw1.west.example:17443"},
		"annotation without a port":       {says("gw1.west.example"), "gw1.west.example:7443"},
		"annotation that is no address":   {says(":7443"), "cannot be dialled"},
		"no port over UDP":                {func(s *corev1.Service) { s.Spec.Ports = s.Spec.Ports[:1] }, "no port over UDP"},
	} {
		service := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "isthmus-system", Name: "isthmus-gateway-0"},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 7443, Protocol: corev1.ProtocolTCP}, {Port: 7443, Protocol: corev1.ProtocolUDP}}},
		}
		c.edit(service)
		pod := &corev1.Pod{ObjectMeta: service.ObjectMeta, Status: corev1.PodStatus{HostIP: "10.0.0.1", PodIP: "10.42.0.9"}}
		address, why := publicAddress(service, pod)
		if address != c.want && !(address == "" && strings.Contains(why, c.want)) {
			t.Errorf("%s: address %q, reason %q; want %q", name, address, why, c.want)
		}
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "isthmus-system", Name: "isthmus-gateway-7"}}
	if _, why := publicAddress(nil, pod); why != "there is no Service isthmus-system/isthmus-gateway-7" {
		t.Errorf("without a Service: %q", why)
	}
}

func TestSiblingsAreTheOtherPodsBehindTheServiceOfGatewaysReadyOrNot(t *testing.T) {
	name, port, other := "tunnel", int32(7443), "xds"
	endpoint := func(pod, ip string, ready bool) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{Addresses: []string{ip}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, TargetRef: &corev1.ObjectReference{Name: pod}}
	}
	got := siblingAddresses([]*discoveryv1.EndpointSlice{
		{Ports: []discoveryv1.EndpointPort{{Name: &other, Port: new(int32)}, {Name: &name, Port: &port}}, Endpoints: []discoveryv1.Endpoint{
			endpoint("isthmus-gateway-2", "10.42.0.3", false), endpoint("isthmus-gateway-0", "10.42.0.1", true), endpoint("isthmus-gateway-1", "fd00::2", true),
		}},
		{Endpoints: []discoveryv1.Endpoint{endpoint("isthmus-gateway-4", "10.42.0.5", true)}}, // no port of that name
	}, "isthmus-gateway-0")
	if diff := cmp.Diff([]string{"10.42.0.3:7443", "[fd00::2]:7443"}, got); diff != "" {
		t.Error(diff)
	}
}
