package kubernetes

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// exportConditions are what a ServiceExport is told of the Service of its name; nil: there
// is none. Conflict is written by who sees the other clusters' exports.
func exportConditions(x *mcsv1beta1.ServiceExport, s *corev1.Service) []metav1.Condition {
	valid := func(holds bool, reason mcsv1beta1.ServiceExportConditionReason, message string) metav1.Condition {
		return kube.Condition(string(mcsv1beta1.ServiceExportConditionValid), holds, string(reason), message, x.Generation)
	}
	ready := func(holds bool, reason mcsv1beta1.ServiceExportConditionReason, message string) metav1.Condition {
		return kube.Condition(string(mcsv1beta1.ServiceExportConditionReady), holds, string(reason), message, x.Generation)
	}
	if s == nil {
		return []metav1.Condition{
			valid(false, mcsv1beta1.ServiceExportReasonNoService, fmt.Sprintf("there is no Service %s in namespace %s", x.Name, x.Namespace)),
			ready(false, mcsv1beta1.ServiceExportReasonPending, "it waits for the Service"),
		}
	}
	if why := invalid(s); why != "" {
		return []metav1.Condition{
			valid(false, mcsv1beta1.ServiceExportReasonInvalidServiceType, "the Service cannot be exported: "+why),
			ready(false, mcsv1beta1.ServiceExportReasonFailed, "the Service cannot be exported"),
		}
	}
	message := "other clusters are told of the Service"
	if tcp := slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Protocol == corev1.ProtocolTCP || p.Protocol == "" }); !tcp {
		message = "other clusters are told of the Service, but the mesh carries none of its ports: it has no TCP port"
	}
	if s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		message += "; its sessionAffinity is not kept, callers are spread over all pods"
	}
	return []metav1.Condition{
		valid(true, mcsv1beta1.ServiceExportReasonValid, "the Service can be exported"),
		ready(true, mcsv1beta1.ServiceExportReasonExported, message),
	}
}

// writeConditions keeps the conditions of ServiceExports while this gateway leads, until
// ctx ends.
func (s *Source) writeConditions(ctx context.Context) {
	keepConditions(ctx, s.leads, func(leads bool) (past pasts, last error) {
		var services []*corev1.Service
		var exports []*mcsv1beta1.ServiceExport
		services, past[0] = s.services.Snapshot()
		exports, past[1] = s.exports.Snapshot()
		var sources *found
		sources, past[2] = s.found.Snapshot()
		if !leads || services == nil || sources == nil {
			return past, nil
		}
		for _, x := range exports {
			if err := s.writeExport(ctx, x, services); err != nil && ctx.Err() == nil {
				s.log.Warn("the conditions of a ServiceExport are not written: it is tried again", "service", mesh.ServiceName{Namespace: x.Namespace, Name: x.Name}, "err", err)
				last = err
			}
		}
		for _, service := range spreadAnyway(services, sources.services) {
			s.client.Event(service, true, "SessionAffinityIgnored", "sessionAffinity ClientIP is not kept for callers that have a sidecar or are in other clusters: they are spread over all pods; have the program not depend on it")
		}
		return past, last
	})
}

// writeExport writes the conditions of one ServiceExport, if they are not what they were.
func (s *Source) writeExport(ctx context.Context, x *mcsv1beta1.ServiceExport, services []*corev1.Service) error {
	var service *corev1.Service
	if i, ok := slices.BinarySearchFunc(services, x, func(s *corev1.Service, x *mcsv1beta1.ServiceExport) int {
		return mesh.ServiceName{Namespace: s.Namespace, Name: s.Name}.Compare(mesh.ServiceName{Namespace: x.Namespace, Name: x.Name})
	}); ok {
		service = services[i]
	}
	want := exportConditions(x, service)
	next, changed := kube.SetConditions(conditionsOf(x.Status.Conditions, want), want...)
	if !changed {
		return nil
	}
	return ignoreGone(kube.ApplyStatus(ctx, s.client, manager, &mcsv1beta1.ServiceExport{
		ObjectMeta: metav1.ObjectMeta{Namespace: x.Namespace, Name: x.Name, UID: x.UID},
		Status:     mcsv1beta1.ServiceExportStatus{Conditions: next},
	}))
}

// spreadAnyway returns the Services whose callers shall stay with one pod, and which the mesh spreads:
// those that have a pod with a sidecar, or are exported.
func spreadAnyway(services []*corev1.Service, known []discovery.Service) (all []*corev1.Service) {
	for _, s := range services {
		if s.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
			continue
		}
		i, found := slices.BinarySearchFunc(known, mesh.ServiceName{Namespace: s.Namespace, Name: s.Name}, func(d discovery.Service, n mesh.ServiceName) int { return d.Name.Compare(n) })
		if found && (known[i].Export != nil && *known[i].Export || slices.ContainsFunc(known[i].Ports, func(p mesh.ServicePort) bool {
			return slices.ContainsFunc(p.Endpoints, func(e mesh.Endpoint) bool { return e.Identity != "" })
		})) {
			all = append(all, s)
		}
	}
	return all
}

// conditionsOf returns those of all whose types are those of like: others have their
// own writers.
func conditionsOf(all, like []metav1.Condition) []metav1.Condition {
	var ours []metav1.Condition
	for i := range all {
		if slices.ContainsFunc(like, func(c metav1.Condition) bool { return c.Type == all[i].Type }) {
			ours = append(ours, all[i])
		}
	}
	return ours
}
