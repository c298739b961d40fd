package kubernetes

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/gateway/discovery/resource"
	"github.com/isthmus-mesh/isthmus/internal/kube"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/internal/strictyaml"
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

// readings is what was read of every object, kept so that only what changes is read again.
type readings map[objectKey]*reading

// reading is what was read of one.
type reading struct {
	verdict
	last      resource.Content // the last good one
	neverGood bool
	unread    string // why; empty: it could be read
}

// closes reports whether it refuses every call in its namespace: it may be what refuses, and
// nobody knows whom.
func (r *reading) closes() bool { return r.neverGood && r.key.kind == "AuthorizationPolicy" }

func compareKeys(a, b objectKey) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
}

// update reads what is new and returns all, sorted by object.
func (r readings) update(services []*kube.Service, policies []*kube.AuthorizationPolicy) []reading {
	there := map[objectKey]*kube.Resource{}
	for _, s := range services {
		there[objectKey{"Service", s.Namespace, s.Name}] = &s.Resource
	}
	for _, p := range policies {
		there[objectKey{"AuthorizationPolicy", p.Namespace, p.Name}] = &p.Resource
	}
	for key := range r {
		if there[key] == nil {
			delete(r, key)
		}
	}
	all := make([]reading, 0, len(there))
	for key, object := range there {
		one := r[key]
		if one == nil || one.object.UID != object.UID {
			one = &reading{verdict: verdict{key: key}, neverGood: true}
			r[key] = one
		}
		if one.object == nil || one.object.Generation != object.Generation {
			if content, err := parse(key.kind, object); err == nil {
				one.last, one.neverGood, one.faults, one.unread = content, false, "", ""
			} else {
				one.unread = err.Error()
				one.reason, one.faults, one.inUse = reasonInvalid, one.unread, "its last good state"
				if one.neverGood {
					one.inUse = "nothing: it was never good"
				}
				if one.closes() {
					one.faults = fmt.Sprintf("every call to services of namespace %s is refused until this is mended or removed: %s", key.namespace, one.faults)
				}
			}
		}
		one.object = object
		all = append(all, *one)
	}
	slices.SortFunc(all, func(a, b reading) int { return compareKeys(a.key, b.key) })
	return all
}

// parse reads one object as if it stood in a file. Its faults have keys and no lines.
func parse(kind string, r *kube.Resource) (resource.Content, error) {
	document := map[string]any{
		"apiVersion": kube.Group + "/v1alpha1", "kind": kind,
		"metadata": map[string]string{"namespace": r.Namespace, "name": r.Name},
	}
	if len(r.Spec.Raw) > 0 {
		document["spec"] = json.RawMessage(r.Spec.Raw)
	}
	data, err := json.Marshal(document)
	if err != nil {
		return resource.Content{}, err
	}
	content, err := resource.Parse(kind, data)
	if faults, ok := errors.AsType[strictyaml.Faults](err); ok {
		lines := make([]string, 0, len(faults))
		for _, f := range faults {
			lines = append(lines, f.Key+": "+f.Problem)
		}
		return resource.Content{}, errors.New(strings.Join(lines, "\n"))
	}
	if err == nil {
		err = checkEndpoints(content)
	}
	return content, err
}

// checkEndpoints refuses addresses that are nobody's but the gateway's own host: whoever may
// write a Service in one namespace shall not reach that. Files are the operator's. Where a name
// leads is looked at when it is called.
func checkEndpoints(c resource.Content) error {
	for _, s := range c.Services {
		for _, p := range s.Service.Ports {
			for _, e := range p.Endpoints {
				host, err := netip.ParseAddrPort(e.Address)
				if err == nil && OnGateway(host.Addr()) || strings.HasPrefix(e.Address, "localhost:") {
					return fmt.Errorf("spec.endpoints: %s is the gateway's own host or link: name an address of the cluster or outside it", e.Address)
				}
			}
		}
	}
	return nil
}

// OnGateway reports whether an address is nobody's but the host's or the link's of who calls it.
func OnGateway(addr netip.Addr) bool {
	addr = addr.Unmap()
	return addr.IsLoopback() || addr.IsUnspecified() || addr.IsLinkLocalUnicast() || addr.IsMulticast()
}

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

// ignoreGone drops the error of a write to an object that is not there any more.
func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // another one of its name
		return nil
	}
	return err
}
