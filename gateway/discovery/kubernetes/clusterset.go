package kubernetes

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// clusterSetOf is what other clusters' ServiceImports show of an exported Service.
func clusterSetOf(s *corev1.Service, x *mcsv1beta1.ServiceExport) *mesh.ClusterSet {
	c := &mesh.ClusterSet{
		Since: x.CreationTimestamp.UTC(), Headless: s.Spec.ClusterIP == corev1.ClusterIPNone,
		Labels: x.Spec.ExportedLabels, Annotations: x.Spec.ExportedAnnotations, TrafficDistribution: deref(s.Spec.TrafficDistribution),
	}
	if p := s.Spec.InternalTrafficPolicy; p != nil {
		c.InternalTrafficPolicy = string(*p)
	}
	if s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		c.SessionAffinity = string(corev1.ServiceAffinityClientIP)
		if a := s.Spec.SessionAffinityConfig; a != nil && a.ClientIP != nil && a.ClientIP.TimeoutSeconds != nil {
			c.AffinityTimeout = *a.ClientIP.TimeoutSeconds
		}
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		c.Ports = append(c.Ports, mesh.ClusterSetPort{Name: p.Name, Protocol: string(cmp.Or(p.Protocol, corev1.ProtocolTCP)), Port: uint16(p.Port), AppProtocol: deref(p.AppProtocol)})
	}
	return c
}
