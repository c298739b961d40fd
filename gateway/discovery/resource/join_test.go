package resource

import (
	"context"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// told is a Source that says what a test tells it.
type told struct {
	services state.Store[[]discovery.Described]
	policies state.Store[[]policy.Policy]
	unknown  string
}

func (s *told) Snapshot() ([]discovery.Described, <-chan struct{}) { return s.services.Snapshot() }
func (s *told) Policies() ([]policy.Policy, <-chan struct{})       { return s.policies.Snapshot() }
func (s *told) PoliciesUnknown() string                            { return s.unknown }
func (s *told) Run(ctx context.Context) error                      { <-ctx.Done(); return nil }

func TestOfTwoSourcesTheFirstsServicesCountAndThePoliciesOfBoth(t *testing.T) {
	described := func(serves string, names ...string) (all []discovery.Described) {
		all = []discovery.Described{}
		for _, n := range names {
			all = append(all, discovery.Described{Service: discovery.Service{Name: mesh.ServiceName{Namespace: "shop", Name: n}}, Serves: []string{serves}})
		}
		return all
	}
	files, objects := &told{}, &told{}
	j := Join(files, objects)
	ended := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- j.Run(ctx) }()
	until := func(what string, holds func(s []discovery.Described, p []policy.Policy) bool) {
		t.Helper()
		for {
			s, servicesPast := j.Snapshot()
			p, policiesPast := j.Policies()
			if holds(s, p) {
				return
			}
			select {
			case <-servicesPast:
			case <-policiesPast:
			case <-t.Context().Done():
				t.Fatal(what)
			}
		}
	}
	files.services.Set(described("file", "b", "d"))
	files.policies.Set([]policy.Policy{})
	if s, _ := j.Snapshot(); s != nil {
		t.Error("services are known before both sources know theirs")
	}
	if p, _ := j.Policies(); p != nil {
		t.Error("policies are known before both sources know theirs")
	}
	objects.services.Set(described("object", "a", "b", "c"))
	objects.policies.Set([]policy.Policy{})
	until("both know theirs", func(s []discovery.Described, p []policy.Policy) bool {
		return len(s) == 4 && s[0].Service.Name.Name == "a" && s[1].Serves[0] == "file" && s[3].Service.Name.Name == "d" && p != nil && len(p) == 0
	})
	files.policies.Set([]policy.Policy{{Namespace: "shop", Name: "x"}})
	objects.policies.Set([]policy.Policy{{Namespace: "shop", Name: "x"}, {Namespace: "shop", Name: "y"}})
	until("policies of both", func(_ []discovery.Described, p []policy.Policy) bool { return len(p) == 3 })
	if objects.unknown = "why"; j.PoliciesUnknown() != "why" {
		t.Error("it is not said what is unknown")
	}
	if files.unknown = "first"; j.PoliciesUnknown() != "first" {
		t.Error("it is not said what is unknown first")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
