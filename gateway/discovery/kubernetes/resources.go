package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Resources are the objects of our own kinds that the API server has, read as resource
// files are: a [resource.Source]. Create it with [NewResources]; its methods may be
// called concurrently.
//
// An object that is changed into a bad one stays in force as it was. A policy that was
// never good refuses every call to the services of its namespace, and of no other: what
// it would have refused is not known.
type Resources struct {
	client *kube.Client
	leads  func() (bool, <-chan struct{})
	log    *slog.Logger

	services *kube.Followed[*kube.Service]
	policies *kube.Followed[*kube.AuthorizationPolicy]
	// besides are the Services of Kubernetes, whose names none of ours takes.
	besides *kube.Followed[*corev1.Service]

	described state.Store[[]discovery.Described]
	inForce   state.Store[[]policy.Policy]
	verdicts  state.Store[[]verdict]
}

// verdict is what is found of one object.
type verdict struct {
	key    objectKey
	object *kube.Resource // what was read
	reason string         // of the fault, as a condition has it
	faults string         // one a line; empty: it is good
	inUse  string         // what is in force in place of what has the fault
}

// objectKey names an object of our kinds.
type objectKey struct{ kind, namespace, name string }

func (k objectKey) String() string { return k.kind + " " + k.namespace + "/" + k.name }

// NewResources returns them, and follows with the client what they need. Of cfg Client,
// Leads and Log count. The Services of Kubernetes are those that the source follows.
func NewResources(cfg Config, source *Source) (*Resources, error) {
	r := &Resources{client: cfg.Client, besides: source.services, leads: cfg.Leads, log: cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))}
	var err error
	if r.services, err = kube.Follow[*kube.Service](cfg.Client, kube.Selection{Optional: true}, nil); err != nil {
		return nil, err
	}
	r.policies, err = kube.Follow[*kube.AuthorizationPolicy](cfg.Client, kube.Selection{Optional: true}, nil)
	return r, err
}

// Snapshot returns the services that the objects describe, sorted by name, and a channel
// that closes when they are past. Nil until the objects are known.
func (r *Resources) Snapshot() ([]discovery.Described, <-chan struct{}) {
	return r.described.Snapshot()
}

// Policies returns the policies in force, and a channel that closes when they are past.
// Nil until the objects are known.
func (r *Resources) Policies() ([]policy.Policy, <-chan struct{}) { return r.inForce.Snapshot() }

// PoliciesUnknown says nothing: what is unknown of a policy refuses in its namespace.
func (r *Resources) PoliciesUnknown() string { return "" }

// Fault is an object that is not in force as it is now.
type Fault struct{ Object, Error string }

// Faults returns them, sorted by object.
func (r *Resources) Faults() (all []Fault) {
	for _, v := range r.verdicts.Load() {
		if v.faults != "" {
			all = append(all, Fault{v.key.String(), v.faults})
		}
	}
	return all
}

// Run keeps all of it current until ctx ends, and writes the objects' conditions while
// this gateway leads. It returns nil.
func (r *Resources) Run(ctx context.Context) error {
	var writing sync.WaitGroup
	writing.Go(func() { r.writeConditions(ctx) })
	defer writing.Wait()
	read := readings{}
	for {
		services, servicesPast := r.services.Snapshot()
		policies, policiesPast := r.policies.Snapshot()
		besides, besidesPast := r.besides.Snapshot()
		if services != nil && policies != nil && besides != nil {
			r.apply(refuseTaken(read.update(services, policies), besides))
		}
		applied := time.Now()
		if !state.Await(ctx, servicesPast, policiesPast, besidesPast) {
			return nil
		}
		if !state.Pause(ctx, quiet-time.Since(applied)) {
			return nil
		}
	}
}

// apply puts in force what was read.
func (r *Resources) apply(all []reading) {
	described := make([]discovery.Described, 0, len(all))
	verdicts := make([]verdict, 0, len(all))
	was := r.verdicts.Load()
	for _, one := range all {
		for _, s := range one.last.Services {
			described = append(described, s.Described)
		}
		verdicts = append(verdicts, one.verdict)
		i, known := slices.BinarySearchFunc(was, one.key, func(v verdict, k objectKey) int { return compareKeys(v.key, k) })
		if one.faults != "" && (!known || was[i].faults != one.faults) {
			r.log.Error("a resource is not used as it is now", "in_use", one.inUse, "resource", one.key, "err", one.faults)
		}
	}
	slices.SortFunc(described, func(a, b discovery.Described) int { return a.Service.Name.Compare(b.Service.Name) })
	r.verdicts.Set(verdicts)
	r.inForce.Set(policiesOf(all))
	r.described.Set(described)
}

// policiesOf joins the policies of all objects. Of a namespace that has too many, and of
// one with an object that was never good, every call is refused: what is left out might
// refuse.
func policiesOf(all []reading) []policy.Policy {
	joined := []policy.Policy{}
	count, size := map[string]int{}, map[string]int{}
	closed := map[string]policy.Policy{}
	closes := func(namespace, name, why string) {
		if _, already := closed[namespace]; !already {
			closed[namespace] = policy.Closing(namespace, name, why)
		}
	}
	for _, one := range all {
		if one.closes() {
			closes(one.key.namespace, one.key.name, "it could not be read: "+one.unread)
		}
		for _, p := range one.last.Policies {
			count[p.Namespace]++
			if size[p.Namespace] += p.Size(); count[p.Namespace] > policy.MaxPolicies || size[p.Namespace] > policy.MaxBytes {
				closes(p.Namespace, "too-many-policies", fmt.Sprintf("the namespace has more than %d policies, or %d bytes of them", policy.MaxPolicies, policy.MaxBytes))
			}
			joined = append(joined, p.Policy)
		}
	}
	joined = slices.DeleteFunc(joined, func(p policy.Policy) bool { _, is := closed[p.Namespace]; return is })
	joined = slices.AppendSeq(joined, maps.Values(closed))
	slices.SortFunc(joined, func(a, b policy.Policy) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return joined
}
