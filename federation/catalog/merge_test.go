package catalog

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Catalog is the newest known state of every origin, as a gateway holds it.
type Catalog map[mesh.GatewayID]*State

// Merge lifts Prefer, to all origins. It changes neither.
func Merge(a, b Catalog) Catalog {
	m := maps.Clone(a)
	if m == nil {
		m = make(Catalog, len(b))
	}
	for id, s := range b {
		m[id] = Prefer(m[id], s)
	}
	return m
}

func exportNamed(name string, ready uint32) mesh.Export {
	return mesh.Export{
		Service: mesh.ServiceName{Namespace: "shop", Name: name},
		Ports: []mesh.ExportPort{{Port: 80, Protocol: mesh.HTTP, Ready: ready, Total: 3, Capacity: ready,
			Identities: []string{"spiffe://mesh.example/cluster/west/ns/shop/sa/" + name}}},
	}
}

// drawExports draws a set of exports with few names, so that changes collide.
func drawExports(t *rapid.T) []mesh.Export {
	m := rapid.MapOf(rapid.SampledFrom([]string{"cart", "orders", "search", "users"}), rapid.Uint32Range(0, 2)).Draw(t, "exports")
	var es []mesh.Export
	for name, ready := range m {
		es = append(es, exportNamed(name, ready))
	}
	return es
}

// drawHistory draws everything that one origin ever said, oldest first: some
// epochs of some changes each.
func drawHistory(t *rapid.T, origin mesh.GatewayID) []*State {
	var all []*State
	for epoch := range rapid.Uint64Range(1, 3).Draw(t, "epochs") {
		s := New(origin, epoch+1)
		all = append(all, s)
		for range rapid.IntRange(1, 6).Draw(t, "changes") {
			n, err := s.Next(drawExports(t))
			if err != nil {
				t.Fatal(err)
			}
			if n != s {
				all = append(all, n)
			}
			s = n
		}
	}
	return all
}

// origins has a pair of processes that share a name and so break the rule that
// one version means one digest; Prefer must still make replicas agree.
var origins = []mesh.GatewayID{{Cluster: "east", Name: "east-1"}, {Cluster: "west", Name: "west-1"}}

func drawCatalogs(t *rapid.T, n int) []Catalog {
	var states []*State
	for _, o := range origins {
		states = append(states, drawHistory(t, o)...)
	}
	states = append(states, drawHistory(t, origins[0])...) // its double
	out := make([]Catalog, n)
	for i := range out {
		out[i] = Catalog{}
		for _, s := range rapid.SliceOfN(rapid.SampledFrom(states), 0, 4).Draw(t, "held") {
			out[i] = Merge(out[i], Catalog{s.Head().Origin: s})
		}
	}
	return out
}

// same compares what catalogs mean: heads and records.
func same(a, b Catalog) bool {
	return maps.EqualFunc(a, b, func(x, y *State) bool {
		return x.head == y.head && slices.EqualFunc(x.Exports(), y.Exports(), func(p, q mesh.Export) bool {
			i, _ := json.Marshal(p)
			j, _ := json.Marshal(q)
			return string(i) == string(j)
		})
	})
}

func TestMergeIsCommutativeAssociativeAndIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCatalogs(t, 3)
		if !same(Merge(c[0], c[1]), Merge(c[1], c[0])) {
			t.Fatal("not commutative")
		}
		if !same(Merge(Merge(c[0], c[1]), c[2]), Merge(c[0], Merge(c[1], c[2]))) {
			t.Fatal("not associative")
		}
		if !same(Merge(c[0], c[0]), c[0]) {
			t.Fatal("not idempotent")
		}
		if m := Merge(c[0], c[1]); !same(Merge(m, c[1]), m) {
			t.Fatal("merging again changes something")
		}
	})
}

func TestMergeNeverGoesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCatalogs(t, 2)
		for id, s := range Merge(c[0], c[1]) {
			for _, old := range c {
				if o := old[id]; o != nil && s.Head().Version.Compare(o.Head().Version) < 0 {
					t.Fatalf("%s went from %s back to %s", id, o.Head().Version, s.Head().Version)
				}
			}
		}
	})
}

func TestADeltaLeadsToTheStateThatItNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t, origins[0])
		i := rapid.IntRange(0, len(h)-1).Draw(t, "from")
		j := rapid.IntRange(i, len(h)-1).Draw(t, "to")
		d := h[j].Delta(h[i].Head().Version)
		if d == nil {
			if i != j {
				t.Fatalf("no delta from %s to %s", h[i].Head().Version, h[j].Head().Version)
			}
			return
		}
		got, err := h[i].Apply(overTheWire(t, d))
		if err != nil {
			t.Fatal(err)
		}
		if !same(Catalog{origins[0]: got}, Catalog{origins[0]: h[j]}) {
			t.Fatalf("got %v, want %v", got, h[j])
		}
	})
}

// TestReplicasThatTellEachOtherAgree drives replicas that pull from the origin or
// from each other, in any order, with every answer as stale as it likes.
func TestReplicasThatTellEachOtherAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t, origins[0])
		replicas := make([]*State, 3)
		pull := func(i int, from *State) {
			var have Version
			if replicas[i] != nil {
				have = replicas[i].Head().Version
			}
			d := from.Delta(have)
			if d == nil {
				return
			}
			n, err := replicas[i].Apply(overTheWire(t, d))
			if err != nil {
				t.Fatalf("replica at %s, delta %+v: %v", have, d, err)
			}
			if n.Head().Version.Compare(have) <= 0 {
				t.Fatalf("went from %s to %s", have, n.Head().Version)
			}
			replicas[i] = n
		}
		for range rapid.IntRange(0, 20).Draw(t, "pulls") {
			i := rapid.IntRange(0, len(replicas)-1).Draw(t, "who")
			if j := rapid.IntRange(0, len(replicas)).Draw(t, "from whom"); j < len(replicas) {
				if replicas[j] != nil {
					pull(i, replicas[j])
				}
				continue
			}
			pull(i, rapid.SampledFrom(h).Draw(t, "origin then"))
		}
		for i := range replicas {
			pull(i, h[len(h)-1])
			if !same(Catalog{origins[0]: replicas[i]}, Catalog{origins[0]: h[len(h)-1]}) {
				t.Fatalf("replica %d holds %v", i, replicas[i].Head())
			}
		}
	})
}

func overTheWire(t *rapid.T, d *Delta) *Delta {
	b, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	var got Delta
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	return &got
}

// String makes a failed property readable.
func (s *State) String() string {
	out := s.head.Version.String()
	for _, e := range s.Exports() {
		out += fmt.Sprintf(" %s=%d", e.Service, e.Ports[0].Ready)
	}
	return out
}
