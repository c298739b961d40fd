package kubernetes

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/internal/kube"
)

// writeConditions tells each object whether it is in force, while this gateway leads, until
// ctx ends. What is wrong is an Event as well.
func (r *Resources) writeConditions(ctx context.Context) {
	keepConditions(ctx, r.leads, func(leads bool) (past pasts, last error) {
		var verdicts []verdict
		verdicts, past[0] = r.verdicts.Snapshot()
		for i := 0; leads && i < len(verdicts); i++ {
			if err := r.write(ctx, &verdicts[i]); err != nil && ctx.Err() == nil {
				r.log.Warn("the conditions of a resource are not written: it is tried again", "resource", verdicts[i].key, "err", err)
				last = err
			}
		}
		return past, last
	})
}

// accepted is the condition of an object.
func accepted(v *verdict) metav1.Condition {
	if v.faults != "" {
		return kube.Condition("Accepted", false, v.reason, v.faults, v.object.Generation)
	}
	return kube.Condition("Accepted", true, "Accepted", "it is in force", v.object.Generation)
}

func (r *Resources) write(ctx context.Context, v *verdict) error {
	next, changed := kube.SetConditions(v.object.Status.Conditions, accepted(v))
	if !changed {
		return nil
	}
	to := kube.Resource{
		ObjectMeta: metav1.ObjectMeta{Namespace: v.object.Namespace, Name: v.object.Name, UID: v.object.UID},
		Status:     kube.ResourceStatus{Conditions: next},
	}
	var object kube.Object = &kube.AuthorizationPolicy{Resource: to}
	var err error
	if v.key.kind == "Service" {
		s := &kube.Service{Resource: to}
		object, err = s, kube.ApplyStatus(ctx, r.client, manager, s)
	} else {
		err = kube.ApplyStatus(ctx, r.client, manager, object.(*kube.AuthorizationPolicy))
	}
	if v.faults != "" {
		r.client.Event(object, true, v.reason, v.faults)
	}
	return ignoreGone(err)
}
