package kubernetes

import (
	"context"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/traffic"
)

const (
	// controller is who we are in the statuses of routes.
	controller gatewayv1.GatewayController = "isthmus.io/mesh"
	// maxParentStatuses is how many a route has room for, and maxMessage how long a condition's
	// message may be in bytes.
	maxParentStatuses = 32
	maxMessage        = 32 << 10
)

// writeConditions tells each route what became of it, while this gateway leads, until ctx
// ends.
func (r *Routes) writeConditions(ctx context.Context) {
	keepConditions(ctx, r.leads, func(leads bool) (past pasts, err error) {
		var bindings *traffic.Bindings
		var http []*gatewayv1.HTTPRoute
		var grpc []*gatewayv1.GRPCRoute
		bindings, past[0] = r.bindings.Snapshot()
		http, past[1] = r.http.Snapshot()
		grpc, past[2] = r.grpc.Snapshot()
		if leads && bindings != nil {
			if err = r.write(ctx, bindings, http, grpc); err != nil && ctx.Err() == nil {
				r.log.Warn("the conditions of a route are not written: it is tried again", "err", err)
			}
		}
		return past, err
	})
}

// write writes the statuses that are other ones. It goes on after an error, of which it returns
// the last.
func (r *Routes) write(ctx context.Context, bindings *traffic.Bindings, http []*gatewayv1.HTTPRoute, grpc []*gatewayv1.GRPCRoute) (err error) {
	by := make(map[string]*traffic.Binding, len(bindings.Routes))
	for i := range bindings.Routes {
		by[bindings.Routes[i].Route.String()] = &bindings.Routes[i]
	}
	find := func(kind traffic.Kind, o kube.Object) (*traffic.Binding, bool) {
		one := by[string(kind)+" "+o.GetNamespace()+"/"+o.GetName()]
		return one, one == nil || one.Route.Generation == o.GetGeneration() // else it is about to be bound
	}
	for _, o := range http {
		one, current := find(traffic.HTTPRoute, o)
		next, changed := statusOf(o.Status.Parents, o.Spec.ParentRefs, one)
		if !current || !changed {
			continue
		}
		to := o.DeepCopy()
		if to.Status.Parents = next; next == nil {
			to.Status.Parents = []gatewayv1.RouteParentStatus{} // which the schema wants
		}
		if e := kube.ReplaceStatus(ctx, r.client, to); ignoreGone(e) != nil {
			err = e
		}
	}
	for _, o := range grpc {
		one, current := find(traffic.GRPCRoute, o)
		next, changed := statusOf(o.Status.Parents, o.Spec.ParentRefs, one)
		if !current || !changed {
			continue
		}
		to := o.DeepCopy()
		if to.Status.Parents = next; next == nil {
			to.Status.Parents = []gatewayv1.RouteParentStatus{}
		}
		if e := kube.ReplaceStatus(ctx, r.client, to); ignoreGone(e) != nil {
			err = e
		}
	}
	return err
}
