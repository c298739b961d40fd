package imports

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// writers is how many imports are written at a time.
const writers = 8

// wanted returns the imports that this cluster should have. Namespaces take turns, in the
// order of names, and who comes last is left out when there are too many: a thousand
// exports of one cost no other its few.
func (w *world) wanted() (all []*Import, tooMany int) {
	type turn struct {
		name mesh.ServiceName
		turn int
	}
	var names []turn
	turns := map[string]int{} // of each namespace
	for _, name := range slices.SortedFunc(maps.Keys(w.offers.byService), mesh.ServiceName.Compare) {
		if len(w.offers.byService[name]) > 0 && w.hasNamespace(name.Namespace) {
			names = append(names, turn{name, turns[name.Namespace]})
			turns[name.Namespace]++
		}
	}
	slices.SortStableFunc(names, func(a, b turn) int { return a.turn - b.turn })
	tooMany = max(len(names)-maxImports, 0)
	for _, n := range names[:len(names)-tooMany] {
		all = append(all, Join(n.name, w.offers.byService[n.name]))
	}
	return all, tooMany
}

// reconcile writes what differs and returns how many objects could not be written.
func (i *Imports) reconcile(ctx context.Context, w world) int {
	wanted, tooMany := w.wanted()
	ports, err := allocate(wanted, w.imports, i.cfg.Ports, &i.resting)
	if err != nil {
		i.cfg.Log.Error("imports", "err", err)
	}
	if tooMany > 0 {
		i.cfg.Log.Error("imports are left out: a cluster has this many at most", "left_out", tooMany, "most", maxImports)
	}
	owner, err := i.owner(ctx)
	if err != nil {
		i.cfg.Log.Warn("imports are not written: they are tried again", "err", err)
		return 1
	}
	run := i.reconciliationOf(&w)
	run.owner = owner
	var all errgroup.Group
	all.SetLimit(writers)
	keep := map[mesh.ServiceName]*Import{}
	for _, want := range wanted {
		keep[want.Service] = want
		all.Go(func() error { run.write(ctx, want, ports[want.Service]); return nil })
	}
	_ = all.Wait()
	if w.offers.complete {
		run.remove(ctx, keep)
	}
	run.conditions(ctx, keep)
	i.metrics.imports.Set(float64(len(wanted)))
	return int(run.failed.Load())
}

// owner asks for the object with which the imports go. Not once for all: imports of an
// owner that was made anew in between would be collected as garbage.
func (i *Imports) owner(ctx context.Context) ([]metav1.OwnerReference, error) {
	if i.cfg.Owner == "" {
		return nil, nil
	}
	role, err := kube.Get[*rbacv1.ClusterRole](ctx, i.cfg.Client, "", i.cfg.Owner)
	switch {
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		return nil, nil // not installed by the chart
	case err != nil:
		return nil, err
	}
	return []metav1.OwnerReference{{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole", Name: role.Name, UID: role.UID}}, nil
}

// reconciliation is one pass. write may be called concurrently.
type reconciliation struct {
	i        *Imports
	w        *world
	gateways []Gateway
	owner    []metav1.OwnerReference // of ServiceImports; nil: there is none

	imports map[mesh.ServiceName]*mcs.ServiceImport
	derived map[mesh.ServiceName]*corev1.Service
	slices  map[mesh.ServiceName][]*discoveryv1.EndpointSlice

	failed atomic.Int32
}

func (i *Imports) reconciliationOf(w *world) *reconciliation {
	r := &reconciliation{i: i, w: w, gateways: gatewaysOf(w.gateways), imports: map[mesh.ServiceName]*mcs.ServiceImport{},
		derived: map[mesh.ServiceName]*corev1.Service{}, slices: map[mesh.ServiceName][]*discoveryv1.EndpointSlice{}}
	for _, o := range w.imports {
		r.imports[mesh.ServiceName{Namespace: o.Namespace, Name: o.Name}] = o
	}
	for _, s := range w.derived {
		if name, ok := importOf(s); ok {
			r.derived[name] = s
		}
	}
	for _, s := range w.slices {
		name := mesh.ServiceName{Namespace: s.Namespace, Name: s.Labels[kube.ImportLabel]}
		r.slices[name] = append(r.slices[name], s)
	}
	return r
}

// stale returns the EndpointSlices that name other gateways than there are, as they should be.
func (i *Imports) stale(w world) (late []*discoveryv1.EndpointSlice) {
	wanted, _ := w.wanted()
	ports, _ := allocate(wanted, w.imports, i.cfg.Ports, &i.resting) // what is short of ports is the writer's to say
	r := i.reconciliationOf(&w)
	for _, want := range wanted {
		was, derived := r.imports[want.Service], r.derived[want.Service]
		if was == nil || derived == nil {
			continue
		}
		for _, s := range want.slices(derived, ports[want.Service], r.gateways, was) {
			if slices.ContainsFunc(r.slices[want.Service], func(o *discoveryv1.EndpointSlice) bool {
				return o.Name == s.Name && !equality.Semantic.DeepEqual(o.Endpoints, s.Endpoints)
			}) {
				late = append(late, s)
			}
		}
	}
	return late
}

// standIn writes what is stale for a writer that has not for a while: who has gone may be
// the writer itself, whose lease is still held.
func (i *Imports) standIn(ctx context.Context, w world) {
	r := i.reconciliationOf(&w)
	for _, s := range i.stale(w) {
		_, err := kube.Apply(ctx, i.cfg.Client, manager, s)
		r.report(ctx, "an EndpointSlice", s, err)
	}
}

// report counts and logs a write that failed. An object that goes away meanwhile, and its
// namespace, are no failures.
func (r *reconciliation) report(ctx context.Context, what string, o metav1.Object, err error) bool {
	switch {
	case err == nil:
		r.i.metrics.writes.Inc()
		return true
	case ctx.Err() != nil, apierrors.IsNotFound(err), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return false
	}
	r.failed.Add(1)
	r.i.metrics.failures.Inc()
	r.i.cfg.Log.Warn(what+" is not written: it is tried again", "name", o.GetNamespace()+"/"+o.GetName(), "err", err)
	return false
}

// write brings one import's objects to what they should be. An import is first, since the
// others are its own and go with it; and once more when it has its addresses.
func (r *reconciliation) write(ctx context.Context, want *Import, ports map[uint16]uint16) {
	c := r.i.cfg.Client
	was := r.imports[want.Service]
	switch {
	case was != nil && was.DeletionTimestamp != nil:
		return
	case was != nil && was.Labels[labelManaged] != managedBy:
		r.i.cfg.Log.Warn("a ServiceImport is not ours and left alone: remove it to have it made by the mesh", "service", want.Service.String())
		return
	case was != nil && !r.w.offers.complete && !knowsAllOf(want, was):
		return
	}
	derived := r.derived[want.Service]
	object := want.object(derived, ports, r.owner)
	if was == nil || differs(was, object) {
		var err error
		if was, err = kube.Apply(ctx, c, manager, object); !r.report(ctx, "a ServiceImport", object, err) {
			return
		}
	}
	if service := want.derived(ports, was); service == nil {
		derived = nil
	} else if derived == nil || !sameDerived(derived, service) {
		var err error
		if derived, err = kube.Apply(ctx, c, manager, service); !r.report(ctx, "a derived Service", service, err) {
			return
		}
	}
	if object = want.object(derived, ports, r.owner); differs(was, object) {
		var err error
		if was, err = kube.Apply(ctx, c, manager, object); !r.report(ctx, "a ServiceImport", object, err) {
			return
		}
	}
	made := want.slices(derived, ports, r.gateways, was)
	if r.i.cfg.Ports.size() == 0 {
		made = nil
	}
	r.writeSlices(ctx, want.Service, made)
	status := want.status(was)
	status.Conditions, _ = kube.SetConditions(was.Status.Conditions, status.Conditions...)
	if !equality.Semantic.DeepEqual(status, was.Status) {
		o := &mcs.ServiceImport{ObjectMeta: metav1.ObjectMeta{Namespace: was.Namespace, Name: was.Name}, Status: status}
		r.report(ctx, "the status of a ServiceImport", o, kube.ApplyStatus(ctx, c, manager, o))
	}
}

// writeSlices replaces the EndpointSlices of an import.
func (r *reconciliation) writeSlices(ctx context.Context, of mesh.ServiceName, made []*discoveryv1.EndpointSlice) {
	keep := map[string]bool{}
	for _, s := range made {
		keep[s.Name] = true
		at := slices.IndexFunc(r.slices[of], func(o *discoveryv1.EndpointSlice) bool { return o.Name == s.Name })
		if at >= 0 && sameSlice(r.slices[of][at], s) {
			continue
		}
		_, err := kube.Apply(ctx, r.i.cfg.Client, manager, s)
		r.report(ctx, "an EndpointSlice", s, err)
	}
	for _, s := range r.slices[of] {
		if !keep[s.Name] && s.DeletionTimestamp == nil {
			r.delete(ctx, "an EndpointSlice", s, kube.Delete(ctx, r.i.cfg.Client, s))
		}
	}
}

// remove deletes what is ours and not wanted any more.
func (r *reconciliation) remove(ctx context.Context, keep map[mesh.ServiceName]*Import) {
	c := r.i.cfg.Client
	for name, s := range r.derived {
		if want := keep[name]; (want == nil || len(want.carriedPorts()) == 0) && s.DeletionTimestamp == nil {
			r.delete(ctx, "a derived Service", s, kube.Delete(ctx, c, s))
		}
	}
	for name := range r.slices {
		if keep[name] == nil {
			r.writeSlices(ctx, name, nil)
		}
	}
	for name, o := range r.imports {
		if keep[name] == nil && o.Labels[labelManaged] == managedBy && o.DeletionTimestamp == nil {
			r.delete(ctx, "a ServiceImport", o, kube.Delete(ctx, c, o))
		}
	}
}

func (r *reconciliation) delete(ctx context.Context, what string, o metav1.Object, err error) {
	if r.report(ctx, what+" that is not wanted any more", o, err) {
		r.i.cfg.Log.Info(what+" is removed: nobody exports it any more", "name", o.GetNamespace()+"/"+o.GetName())
	}
}

// conditions says on this cluster's ServiceExports whether exporters differ.
func (r *reconciliation) conditions(ctx context.Context, wanted map[mesh.ServiceName]*Import) {
	for _, e := range r.w.exports {
		want := wanted[mesh.ServiceName{Namespace: e.Namespace, Name: e.Name}]
		if want == nil || !slices.Contains(want.Clusters, r.i.cfg.Cluster) || e.DeletionTimestamp != nil {
			continue
		}
		condition := conflictCondition(want, e.Generation)
		next, changed := kube.SetConditions(e.Status.Conditions, condition)
		if !changed {
			continue
		}
		at := slices.IndexFunc(next, func(c metav1.Condition) bool { return c.Type == condition.Type })
		o := &mcs.ServiceExport{ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: e.Name},
			Status: mcs.ServiceExportStatus{Conditions: next[at : at+1]}}
		if r.report(ctx, "the status of a ServiceExport", o, kube.ApplyStatus(ctx, r.i.cfg.Client, manager, o)) && len(want.Conflicts) > 0 {
			r.i.cfg.Client.Event(e, true, "Conflict", condition.Message)
		}
	}
}

// conflictCondition is that of every exporter of the import.
func conflictCondition(i *Import, generation int64) metav1.Condition {
	if len(i.Conflicts) == 0 {
		return kube.Condition(string(mcs.ServiceExportConditionConflict), false, string(mcs.ServiceExportReasonNoConflicts), "", generation)
	}
	var reasons, messages []string
	for _, c := range i.Conflicts {
		reasons, messages = append(reasons, string(c.Reason)), append(messages, c.Message)
	}
	const maxMessage = 1024 // an Event's bound
	message := strings.Join(messages, "; ")
	if len(message) > maxMessage {
		message = message[:maxMessage-3] + "..."
	}
	return kube.Condition(string(mcs.ServiceExportConditionConflict), true, strings.Join(reasons, ","), message, generation)
}

// knowsAllOf reports whether want has every cluster of which the ServiceImport says that it exports.
func knowsAllOf(want *Import, was *mcs.ServiceImport) bool {
	return !slices.ContainsFunc(was.Status.Clusters, func(c mcs.ClusterStatus) bool {
		return !slices.Contains(want.Clusters, mesh.ClusterName(c.Cluster))
	})
}

func differs(was, want *mcs.ServiceImport) bool {
	return !equality.Semantic.DeepEqual(was.Spec, want.Spec) || !maps.Equal(was.Labels, want.Labels) || !maps.Equal(was.Annotations, want.Annotations) ||
		!equality.Semantic.DeepEqual(was.OwnerReferences, want.OwnerReferences)
}

// sameDerived compares what this package writes of a derived Service; the rest is the API
// server's.
func sameDerived(was, want *corev1.Service) bool {
	if !includes(was.Labels, want.Labels) || !sameOwner(was, want) || len(was.Spec.Ports) != len(want.Spec.Ports) || len(was.Spec.Selector) > 0 {
		return false
	}
	for n, p := range want.Spec.Ports {
		q := was.Spec.Ports[n]
		if p.Name != q.Name || p.Port != q.Port || p.Protocol != q.Protocol || p.TargetPort != q.TargetPort || !equality.Semantic.DeepEqual(p.AppProtocol, q.AppProtocol) {
			return false
		}
	}
	return true
}

func sameSlice(was, want *discoveryv1.EndpointSlice) bool {
	return includes(was.Labels, want.Labels) && sameOwner(was, want) && equality.Semantic.DeepEqual(was.Endpoints, want.Endpoints) &&
		equality.Semantic.DeepEqual(was.Ports, want.Ports)
}

func sameOwner(a, b metav1.Object) bool {
	x, y := a.GetOwnerReferences(), b.GetOwnerReferences()
	return len(x) == 1 && len(y) == 1 && x[0].UID == y[0].UID
}

func includes(all, some map[string]string) bool {
	for k, v := range some {
		if all[k] != v {
			return false
		}
	}
	return true
}
