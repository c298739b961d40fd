package routes

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func dest(t *testing.T, authority string) mesh.Destination {
	t.Helper()
	d, err := mesh.ParseDestination(authority)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestARouteThatIsThereIsReturnedWithoutSubscribing(t *testing.T) {
	d := dest(t, "orders.shop.mesh:80")
	s := NewStore(nil, func(d mesh.Destination) { t.Errorf("subscribed to %s", d) })
	want := &mesh.Route{Destination: d}
	s.Replace([]*mesh.Route{want}, nil)
	got, err := s.Wait(t.Context(), d)
	if err != nil || got != want {
		t.Fatalf("Wait = %v, %v; want the route", got, err)
	}
}

func TestTheFirstConnectionWaitsForTheAnswerOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, other := dest(t, "orders.shop.mesh:80"), dest(t, "cart.shop.mesh:80")
		var asked []mesh.Destination
		s := NewStore(nil, func(d mesh.Destination) { asked = append(asked, d) })
		var got *mesh.Route
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { got, err = s.Wait(t.Context(), d) })
		synctest.Wait()
		if len(asked) != 1 || asked[0] != d {
			t.Fatalf("subscribed to %v, want only %s", asked, d)
		}
		s.Replace([]*mesh.Route{{Destination: other}}, nil) // not ours: keep waiting
		synctest.Wait()
		if got != nil || err != nil || len(asked) != 1 {
			t.Fatalf("Wait ended with %v, %v after another's route (asked %v)", got, err, asked)
		}
		want := &mesh.Route{Destination: d}
		s.Replace([]*mesh.Route{want}, nil)
		wg.Wait()
		if got != want || err != nil {
			t.Fatalf("Wait = %v, %v; want the route", got, err)
		}
	})
}

func TestAnAbsentDestinationEndsTheWaitWithErrAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dest(t, "nobody.shop.mesh:80")
		s := NewStore(nil, nil)
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { _, err = s.Wait(t.Context(), d) })
		synctest.Wait()
		s.Replace(nil, []mesh.Destination{d})
		wg.Wait()
		if !errors.Is(err, ErrAbsent) {
			t.Fatalf("Wait: %v, want ErrAbsent", err)
		}
	})
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := NewStore(nil, nil).Wait(ctx, dest(t, "orders.shop.mesh:80"))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Wait: %v, want the context's error", err)
		}
	})
}

func TestARouteWinsOverAbsence(t *testing.T) {
	a, b := dest(t, "a.shop.mesh:80"), dest(t, "b.shop.mesh:80")
	table := NewTable([]*mesh.Route{{Destination: b}, {Destination: a}}, []mesh.Destination{a})
	if table.Absent(a) {
		t.Error("a destination with a route is called absent")
	}
	for _, d := range []mesh.Destination{a, b} {
		if r, ok := table.Lookup(d); !ok || r.Destination != d {
			t.Errorf("%s: the route is %v", d, r)
		}
	}
}

func TestLoadAndLookupAllocateNothing(t *testing.T) {
	d := dest(t, "orders.shop.mesh:80")
	s := NewStore(nil, nil)
	s.Replace([]*mesh.Route{{Destination: d}}, nil)
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := s.Load().Lookup(d); !ok {
			t.Fatal("route is gone")
		}
	}); n != 0 {
		t.Errorf("Load and Lookup allocate %v times, want 0", n)
	}
}

func TestWhoConnectsFollowsBeforeTheTableSaysSo(t *testing.T) {
	d := dest(t, "orders.shop.mesh:80")
	var s *Store
	applied := 0
	s = NewStore(func(routes []*mesh.Route) {
		applied++
		if _, ok := s.Load().Lookup(d); ok || len(routes) != 1 || routes[0].Destination != d {
			t.Errorf("applied %v, published already: %v", routes, ok)
		}
	}, nil)
	s.Replace([]*mesh.Route{{Destination: d}}, nil)
	if _, ok := s.Load().Lookup(d); !ok || applied != 1 {
		t.Errorf("published: %v, applied %d times", ok, applied)
	}
}
