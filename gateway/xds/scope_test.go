package xds

import (
	"maps"
	"slices"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/stream/v3"
	"pgregory.net/rapid"
)

// TestASubscriberThatIsToldEveryChangeKnowsWhatExists plays subscriptions and
// publications in any order against one subscription and a client that believes
// what it is told. Whenever it has been told everything, it must hold exactly
// what exists of what it asked for, and nothing may be said twice.
func TestASubscriberThatIsToldEveryChangeKnowsWhatExists(t *testing.T) {
	names := []string{"a", "b", "c"}
	rapid.Check(t, func(t *rapid.T) {
		sub := stream.NewDeltaSubscription([]string{"a"}, nil, nil, false)
		again := map[string]struct{}{"a": {}}
		exists := map[string]*discoveryv3.Resource{}
		holds, absent := map[string]string{}, map[string]bool{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			name := rapid.SampledFrom(names).Draw(t, "name")
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				exists[name] = &discoveryv3.Resource{Name: name, Version: rapid.SampledFrom([]string{"1", "2"}).Draw(t, "version")}
			case 1:
				delete(exists, name)
			case 2:
				sub.UpdateResourceSubscriptions([]string{name}, nil)
				again = map[string]struct{}{name: {}}
			case 3:
				sub.UpdateResourceSubscriptions(nil, []string{name})
				delete(holds, name)
				delete(absent, name)
			}
			c := changeFor(scopeOf(sub, nil), sub, again, nil, known{resources: exists, complete: true}, &doubts{})
			for _, r := range c.send {
				if _, asked := again[r.Name]; holds[r.Name] == r.Version && !asked {
					t.Fatalf("%s was sent twice in version %s", r.Name, r.Version)
				}
				holds[r.Name] = r.Version
				delete(absent, r.Name)
			}
			for _, n := range c.removed {
				if _, asked := again[n]; absent[n] && !asked {
					t.Fatalf("%s was removed twice", n)
				}
				absent[n] = true
				delete(holds, n)
			}
			again = nil
			sub.SetReturnedResources(c.known)

			want := map[string]string{}
			for n := range sub.SubscribedResources() {
				if r := exists[n]; r != nil {
					want[n] = r.Version
				} else if !absent[n] {
					t.Fatalf("%s does not exist, and nobody said so", n)
				}
			}
			if !maps.Equal(holds, want) {
				t.Fatalf("holds %v, want %v", holds, want)
			}
		}
	})
}

func TestAWildcardMeansWhatIsRememberedAndWhatTheClientHolds(t *testing.T) {
	sub := stream.NewDeltaSubscription([]string{"*", "a"}, nil, map[string]string{"held": "1"}, false)
	if got, want := scopeOf(sub, []string{"a", "b"}), []string{"a", "b", "held"}; !slices.Equal(got, want) {
		t.Errorf("scope is %v, want %v", got, want)
	}
	sub = stream.NewDeltaSubscription([]string{"a"}, nil, map[string]string{"held": "1"}, false)
	if got, want := scopeOf(sub, []string{"b"}), []string{"a"}; !slices.Equal(got, want) {
		t.Errorf("scope is %v, want %v", got, want)
	}
}
