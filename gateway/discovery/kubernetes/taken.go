package kubernetes

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/gateway/discovery/resource"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// refuseTaken refuses the Services of ours that name endpoints where Kubernetes has a Service of
// the name: they would take its callers, export and protocols, by another right than the one to
// write that Service. Whom they allow stays in force: no fault opens anything. Those without endpoints only
// say more of it. It changes all and returns it.
func refuseTaken(all []reading, besides []*corev1.Service) []reading {
	for i := range all {
		one := &all[i] // what is kept of it stays
		if !slices.ContainsFunc(one.last.Services, func(s resource.Described) bool {
			return hasEndpoints(s.Service) && isKubernetes(s.Service.Name, besides)
		}) {
			continue
		}
		one.last.Services = nil
		if one.faults == "" {
			one.reason, one.inUse = reasonTaken, "the Service of Kubernetes"
			one.faults = fmt.Sprintf("Kubernetes has a Service %[1]s in namespace %[2]s, which counts: give this one another name, or remove its endpoints (then it only says more of that Service), or run kubectl -n %[2]s delete service %[1]s", one.key.name, one.key.namespace)
		}
	}
	return all
}

func hasEndpoints(s discovery.Service) bool {
	return slices.ContainsFunc(s.Ports, func(p mesh.ServicePort) bool { return len(p.Endpoints) > 0 })
}

// isKubernetes reports whether a service is one of the mesh's by its Service in Kubernetes.
func isKubernetes(name mesh.ServiceName, services []*corev1.Service) bool {
	i, found := slices.BinarySearchFunc(services, name, func(s *corev1.Service, name mesh.ServiceName) int {
		return mesh.ServiceName{Namespace: s.Namespace, Name: s.Name}.Compare(name)
	})
	return found && invalid(services[i]) == ""
}
