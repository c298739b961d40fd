package kubernetes

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/gateway/discovery/resource"
	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/internal/traffic"
)

// Routes are the HTTPRoutes and GRPCRoutes that the API server has whose parents are services, read
// as resource files are. Create it with [NewRoutes]; its methods may be called concurrently.
//
// What of a route is wrong, or is not done here, takes the route out of force, and its
// condition Accepted says why.
type Routes struct {
	client *kube.Client
	leads  func() (bool, <-chan struct{})
	log    *slog.Logger

	http   *kube.Followed[*gatewayv1.HTTPRoute]
	grpc   *kube.Followed[*gatewayv1.GRPCRoute]
	grants *kube.Followed[*gatewayv1.ReferenceGrant]

	written  state.Store[*traffic.Set]
	bindings state.Store[*traffic.Bindings]
}

// NewRoutes returns them, and follows with the client what they need. Of cfg Client,
// Leads and Log count.
func NewRoutes(cfg Config) (*Routes, error) {
	r := &Routes{client: cfg.Client, leads: cfg.Leads, log: cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))}
	var err error
	if r.http, err = kube.Follow[*gatewayv1.HTTPRoute](cfg.Client, kube.Selection{Optional: true}, nil); err != nil {
		return nil, err
	}
	if r.grpc, err = kube.Follow[*gatewayv1.GRPCRoute](cfg.Client, kube.Selection{Optional: true}, nil); err != nil {
		return nil, err
	}
	r.grants, err = kube.Follow[*gatewayv1.ReferenceGrant](cfg.Client, kube.Selection{Optional: true}, nil)
	return r, err
}

// Routes returns all routes and grants, and a channel that closes when they are past. Nil until
// they are known.
func (r *Routes) Routes() (*traffic.Set, <-chan struct{}) { return r.written.Snapshot() }

// SetBindings takes what became of the routes, for their conditions.
func (r *Routes) SetBindings(to *traffic.Bindings) { r.bindings.Set(to) }

// Run keeps all of it current until ctx ends, and writes the routes' conditions while
// this gateway leads. It returns nil.
func (r *Routes) Run(ctx context.Context) error {
	var writing sync.WaitGroup
	writing.Go(func() { r.writeConditions(ctx) })
	defer writing.Wait()
	read := map[string]*readRoute{}
	for {
		http, httpPast := r.http.Snapshot()
		grpc, grpcPast := r.grpc.Snapshot()
		grants, grantsPast := r.grants.Snapshot()
		if http != nil && grpc != nil && grants != nil {
			var all []written
			for _, o := range http {
				all = append(all, written{traffic.HTTPRoute, o, o.Spec.ParentRefs, o.Spec})
			}
			for _, o := range grpc {
				all = append(all, written{traffic.GRPCRoute, o, o.Spec.ParentRefs, o.Spec})
			}
			r.written.Set(setOf(read, all, grants))
		}
		if !state.Await(ctx, httpPast, grpcPast, grantsPast) {
			return nil
		}
		if !state.Pause(ctx, quiet) {
			return nil
		}
	}
}

// written is a route as the API server has it.
type written struct {
	kind    traffic.Kind
	object  kube.Object
	parents []gatewayv1.ParentReference
	spec    any
}

// readRoute is what was read of a route, kept so that only what changes is read again.
type readRoute struct {
	object kube.Object
	route  traffic.Route
}

// setOf reads the routes whose parents are services, and the grants. What is read is kept
// in read.
func setOf(read map[string]*readRoute, all []written, grants []*gatewayv1.ReferenceGrant) *traffic.Set {
	set := &traffic.Set{}
	there := map[string]bool{}
	for _, w := range all {
		parents := parentsOf(w.object.GetNamespace(), w.parents)
		if len(parents) == 0 {
			continue // another controller's
		}
		key := string(w.kind) + " " + w.object.GetNamespace() + "/" + w.object.GetName()
		there[key] = true
		one := read[key]
		if one == nil || one.object.GetUID() != w.object.GetUID() || one.object.GetGeneration() != w.object.GetGeneration() || !maps.Equal(annotationsOf(one.object), annotationsOf(w.object)) {
			one = &readRoute{w.object, routeOf(w, parents)}
			read[key] = one
		}
		set.Routes = append(set.Routes, one.route)
	}
	for key := range read {
		if !there[key] {
			delete(read, key)
		}
	}
	for _, g := range grants {
		if content, err := parseSpec(gatewayv1.GroupVersion.String(), "ReferenceGrant", g, annotationsOf(g), g.Spec); err == nil {
			set.Grants = append(set.Grants, content.Grants...)
		}
	}
	return set
}

// routeOf reads one route.
func routeOf(w written, parents []traffic.Parent) traffic.Route {
	content, err := parseSpec(gatewayv1.GroupVersion.String(), string(w.kind), w.object, annotationsOf(w.object), w.spec)
	route := traffic.Route{Kind: w.kind, Namespace: w.object.GetNamespace(), Name: w.object.GetName(), Parents: parents}
	if err == nil {
		route = content.Routes[0].Route
	} else {
		route.Unsupported = err.Error()
	}
	route.Created, route.Generation = w.object.GetCreationTimestamp().Time, w.object.GetGeneration()
	return route
}

// parentsOf are those of a route's parents that are services.
func parentsOf(namespace string, refs []gatewayv1.ParentReference) (all []traffic.Parent) {
	for i, ref := range refs {
		p := traffic.Parent{Service: mesh.ServiceName{Namespace: namespace, Name: string(ref.Name)}, Ref: i}
		switch {
		case ref.Group == nil || ref.Kind == nil:
			continue
		case *ref.Group == "" && *ref.Kind == "Service":
		case *ref.Group == "multicluster.x-k8s.io" && *ref.Kind == "ServiceImport":
			p.Import = true
		default:
			continue
		}
		if ref.Namespace != nil {
			p.Service.Namespace = string(*ref.Namespace)
		}
		if ref.Port != nil {
			p.Port = uint16(*ref.Port)
		}
		all = append(all, p)
	}
	return all
}

// annotationsOf are the annotations of a route that are ours.
func annotationsOf(o kube.Object) map[string]string {
	ours := map[string]string{}
	for name, value := range o.GetAnnotations() {
		if strings.HasPrefix(name, resource.AnnotationPrefix) {
			ours[name] = value
		}
	}
	return ours
}

// statusOf returns the statuses of a route's parents as they are to be: those of other controllers
// as they are, and ours as binding says. changed says that was is something else.
func statusOf(was []gatewayv1.RouteParentStatus, refs []gatewayv1.ParentReference, binding *traffic.Binding) (next []gatewayv1.RouteParentStatus, changed bool) {
	var ours []gatewayv1.RouteParentStatus
	for _, p := range was {
		if p.ControllerName != controller {
			next = append(next, p)
		} else {
			ours = append(ours, p)
		}
	}
	n := 0
	for i := 0; binding != nil && i < len(binding.Parents) && len(next) < maxParentStatuses; i++ {
		ref := refs[binding.Route.Parents[i].Ref]
		one := gatewayv1.RouteParentStatus{ParentRef: ref, ControllerName: controller}
		var before []metav1.Condition
		if at := slices.IndexFunc(ours, func(p gatewayv1.RouteParentStatus) bool { return sameRef(&p.ParentRef, &ref) }); at >= 0 {
			before = ours[at].Conditions
			n++
		} else {
			changed = true
		}
		generation := binding.Route.Generation
		var differs bool
		one.Conditions, differs = kube.SetConditions(before,
			routeCondition(gatewayv1.RouteConditionAccepted, binding.Parents[i].Accepted, gatewayv1.RouteReasonAccepted, "the route is in force", generation),
			routeCondition(gatewayv1.RouteConditionResolvedRefs, binding.Parents[i].Refs, gatewayv1.RouteReasonResolvedRefs, "every backend is there", generation))
		changed = changed || differs
		next = append(next, one)
	}
	return next, changed || n != len(ours)
}

func routeCondition(kind gatewayv1.RouteConditionType, p traffic.Problem, well gatewayv1.RouteConditionReason, message string, generation int64) metav1.Condition {
	if p != (traffic.Problem{}) {
		return kube.Condition(string(kind), false, p.Reason, p.Message[:min(len(p.Message), maxMessage)], generation)
	}
	return kube.Condition(string(kind), true, string(well), message, generation)
}

func sameRef(a, b *gatewayv1.ParentReference) bool {
	return same(a.Group, b.Group) && same(a.Kind, b.Kind) && same(a.Namespace, b.Namespace) && a.Name == b.Name && same(a.SectionName, b.SectionName) && same(a.Port, b.Port)
}

func same[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }
