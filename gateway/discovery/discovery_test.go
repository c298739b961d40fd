package discovery

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// fixed is a source of what the test sets.
type fixed struct{ state.Store[[]mesh.Service] }

func (*fixed) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func name(n string) mesh.ServiceName { return mesh.ServiceName{Namespace: "shop", Name: n} }

func service(n string, export bool, endpoints ...mesh.Endpoint) mesh.Service {
	return mesh.Service{Name: name(n), Export: export, Ports: []mesh.ServicePort{{Port: 80, Protocol: mesh.HTTP, Endpoints: endpoints}}}
}

func endpoint(instance, address string) mesh.Endpoint {
	return mesh.Endpoint{Instance: instance, Address: address, Ready: true, Weight: 1}
}

func TestAUnionJoinsServicesByName(t *testing.T) {
	a := []mesh.Service{service("cart", false, endpoint("c", "1:1")), service("orders", false, endpoint("a", "1:1"), endpoint("b", "2:1"))}
	b := []mesh.Service{
		service("orders", true, endpoint("a", "1:1"), endpoint("b", "3:1"), endpoint("d", "4:1")),
		{Name: name("lonely"), Export: true},
		{Name: name("cart"), Export: true},
	}
	got := Union(a, b)
	want := []mesh.Service{
		service("cart", true, endpoint("c", "1:1")),
		service("orders", true, endpoint("a", "1:1"), endpoint("b", "2:1"), endpoint("b-2", "3:1"), endpoint("d", "4:1")),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if len(a[1].Ports[0].Endpoints) != 2 {
		t.Error("a published set was written to")
	}
	if got := Union(nil, []mesh.Service{}); got == nil || len(got) != 0 {
		t.Errorf("nothing is %#v, want an empty set that is known", got)
	}
}

func TestAMergeIsUnknownUntilEverySourceIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a, b fixed
		m := Merge(&a, &b)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- m.Run(ctx) }()

		a.Set([]mesh.Service{service("orders", true, endpoint("a", "1:1"))})
		synctest.Wait()
		set, past := m.Snapshot()
		if set != nil {
			t.Fatalf("published %v before the second source was known", set)
		}
		b.Set([]mesh.Service{})
		<-past
		set, past = m.Snapshot()
		if len(set) != 1 {
			t.Fatalf("got %v", set)
		}
		b.Set([]mesh.Service{}) // says the same: nobody is woken
		synctest.Wait()
		select {
		case <-past:
			t.Error("an equal set was published again")
		default:
		}
		b.Set([]mesh.Service{service("cart", false)})
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
