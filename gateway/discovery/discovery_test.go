package discovery

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// fixed is a source of what the test sets.
type fixed struct{ state.Store[[]Service] }

func (*fixed) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func name(n string) mesh.ServiceName { return mesh.ServiceName{Namespace: "shop", Name: n} }

// service is one that exports its port or not, as a source or their union says it.
func service(n string, exported bool, endpoints ...mesh.Endpoint) Service {
	return Service{Name: name(n), Ports: []mesh.ServicePort{{Port: 80, Protocol: mesh.HTTP, Exported: exported, Endpoints: endpoints}}}
}

func endpoint(instance, address string) mesh.Endpoint {
	return mesh.Endpoint{Instance: instance, Address: address, Ready: true, Weight: 1}
}

func TestAUnionJoinsServicesByName(t *testing.T) {
	a := []Service{service("cart", false, endpoint("c", "1:1")), service("orders", true, endpoint("a", "1:1"), endpoint("b", "2:1"))}
	b := []Service{
		service("orders", true, endpoint("a", "1:1"), endpoint("b", "3:1"), endpoint("d", "4:1")),
		{Name: name("lonely"), Export: new(true)},
		{Name: name("cart"), Declared: true, Export: new(true)},
	}
	b[0].Ports[0].Protocol = mesh.TCP
	got := Union(a, b)
	cart := service("cart", true, endpoint("c", "1:1"))
	orders := service("orders", true, endpoint("a", "1:1"), endpoint("b", "2:1"), endpoint("b-2", "3:1"), endpoint("d", "4:1"))
	want := []mesh.Service{{Name: cart.Name, Declared: true, Ports: cart.Ports}, {Name: orders.Name, Ports: orders.Ports}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if len(a[1].Ports[0].Endpoints) != 2 {
		t.Error("a published set was written to")
	}
	if got := Union(nil, []Service{}); got == nil || len(got) != 0 {
		t.Errorf("nothing is %#v, want an empty set that is known", got)
	}
}

func TestNobodysFlagExportsWhatAnotherDoesNot(t *testing.T) {
	exported := func(sets ...[]Service) (ports []uint16) {
		for _, p := range Union(sets...)[0].Ports {
			if p.Exported {
				ports = append(ports, p.Port)
			}
		}
		return ports
	}
	a, b := service("orders", true, endpoint("a", "1:1")), service("orders", false, endpoint("b", "2:1"))
	if got := exported([]Service{a}, []Service{b}); got != nil {
		t.Errorf("ports %v are exported, although one of two says no", got)
	}
	b.Ports[0].Port = 81
	if got := exported([]Service{a}, []Service{b}); !slices.Equal(got, []uint16{80}) {
		t.Errorf("ports %v are exported: each port has a word of its own", got)
	}
	for _, word := range []bool{true, false} {
		operator := Service{Name: name("orders"), Declared: true, Export: &word}
		if got := exported([]Service{operator}, []Service{a, b}); len(got) != map[bool]int{true: 2}[word] {
			t.Errorf("the operator says %t, and ports %v are exported", word, got)
		}
	}
}

func TestAMergeIsUnknownUntilEverySourceIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a, b fixed
		m := Merge(&a, &b)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- m.Run(ctx) }()

		a.Set([]Service{service("orders", true, endpoint("a", "1:1"))})
		synctest.Wait()
		set, past := m.Snapshot()
		if set != nil {
			t.Fatalf("published %v before the second source was known", set)
		}
		b.Set([]Service{})
		<-past
		set, past = m.Snapshot()
		if len(set) != 1 {
			t.Fatalf("got %v", set)
		}
		b.Set([]Service{}) // says the same: nobody is woken
		synctest.Wait()
		select {
		case <-past:
			t.Error("an equal set was published again")
		default:
		}
		b.Set([]Service{service("cart", false)})
		<-past
		if set, _ = m.Snapshot(); len(set) != 2 || set[0].Name != name("cart") {
			t.Errorf("got %v", set)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// broken is a source that cannot run.
type broken struct{ fixed }

func (*broken) Run(context.Context) error { return errors.New("no such directory") }

func TestAMergeEndsWithTheFirstSourceThatFails(t *testing.T) {
	if err := Merge(&fixed{}, &broken{}).Run(t.Context()); err == nil || err.Error() != "no such directory" {
		t.Errorf("Run() = %v", err)
	}
}
