package resource

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Source is resources that are followed: those of a directory, or of an API server.
type Source interface {
	// Snapshot returns the services that they describe, sorted by name, and a channel that
	// closes when they are past. Nil until they are known.
	Snapshot() ([]discovery.Described, <-chan struct{})
	// Policies returns all policies, and a channel that closes when they are past. Nil until
	// they are known: what is not known might refuse.
	Policies() ([]policy.Policy, <-chan struct{})
	// PoliciesUnknown says why the policies as they are written now are not in force;
	// empty: they are.
	PoliciesUnknown() string
	// Run keeps them current until ctx ends.
	Run(ctx context.Context) error
}

// Joined is two sources as one. Create it with [Join].
type Joined struct {
	first, second Source
	described     state.Store[[]discovery.Described]
	policies      state.Store[[]policy.Policy]
}

// Join makes one source of two: of two services with one name the first's counts, and
// every policy of both is in force.
func Join(first, second Source) *Joined { return &Joined{first: first, second: second} }

// Snapshot implements [Source].
func (j *Joined) Snapshot() ([]discovery.Described, <-chan struct{}) { return j.described.Snapshot() }

// Policies implements [Source].
func (j *Joined) Policies() ([]policy.Policy, <-chan struct{}) { return j.policies.Snapshot() }

// PoliciesUnknown implements [Source].
func (j *Joined) PoliciesUnknown() string {
	if why := j.first.PoliciesUnknown(); why != "" {
		return why
	}
	return j.second.PoliciesUnknown()
}

// Run runs both and joins what they say.
func (j *Joined) Run(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return j.first.Run(ctx) })
	all.Go(func() error { return j.second.Run(ctx) })
	all.Go(func() error { joinInto(ctx, &j.described, j.first.Snapshot, j.second.Snapshot, join); return nil })
	all.Go(func() error {
		joinInto(ctx, &j.policies, j.first.Policies, j.second.Policies, func(a, b []policy.Policy) []policy.Policy {
			return append(append(make([]policy.Policy, 0, len(a)+len(b)), a...), b...)
		})
		return nil
	})
	return all.Wait()
}

// joinInto keeps in to what both say, once both say something, until ctx ends.
func joinInto[T any](ctx context.Context, to *state.Store[[]T], first, second func() ([]T, <-chan struct{}), join func(a, b []T) []T) {
	for {
		a, aPast := first()
		b, bPast := second()
		if a != nil && b != nil {
			to.Set(join(a, b))
		}
		if !state.Await(ctx, aPast, bPast) {
			return
		}
	}
}

// join merges two sorted sets.
func join(first, second []discovery.Described) []discovery.Described {
	all := append(make([]discovery.Described, 0, len(first)+len(second)), first...)
	for _, d := range second {
		if _, found := slices.BinarySearchFunc(first, d, compareDescribed); !found {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, compareDescribed)
	return all
}

func compareDescribed(a, b discovery.Described) int { return a.Service.Name.Compare(b.Service.Name) }
