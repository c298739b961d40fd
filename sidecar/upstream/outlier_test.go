package upstream

import (
	"github.com/isthmus-mesh/isthmus/internal/connect"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestEjectionDoublesFromOneSecondToThirty(t *testing.T) {
	var o outlier
	now := instant(1)
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		if !o.fail(now, unconnected) {
			t.Fatalf("failure %d did not eject", i)
		}
		if got := o.until.since(now); got != want*time.Second {
			t.Fatalf("ejection %d lasts %v, want %v s", i, got, int(want))
		}
		if o.probe(now) {
			t.Fatalf("ejection %d: a probe at once", i)
		}
		now = o.until
		if !o.probe(now) {
			t.Fatalf("ejection %d: no probe when its time is over", i)
		}
		if o.probe(now) {
			t.Fatalf("ejection %d: a second probe beside the first", i)
		}
		now = now.add(10 * time.Millisecond)
	}
	o.succeed(now)
	if o.ejected() {
		t.Fatal("still ejected after a success")
	}
	o.fail(now.add(5*time.Second), unconnected)
	if got := o.until.since(now.add(5 * time.Second)); got != maxEjection {
		t.Errorf("a host that fails again after 5 s is left alone for %v, want %v", got, maxEjection)
	}
	now = o.until
	o.succeed(now)
	now = now.add(maxEjection + time.Second)
	o.fail(now, unconnected)
	if got := o.until.since(now); got != minEjection {
		t.Errorf("a host that was well for long is left alone for %v, want %v", got, minEjection)
	}
}

func TestOnlyGatewayErrorsInARowEject(t *testing.T) {
	var o outlier
	for round := range 3 {
		for range gatewayErrorsToEject - 1 {
			if o.fail(1, suspected) {
				t.Fatalf("round %d: ejected too early", round)
			}
		}
		o.succeed(1)
	}
	for range gatewayErrorsToEject - 1 {
		o.fail(1, suspected)
	}
	if !o.fail(1, suspected) {
		t.Error("not ejected after enough failures in a row")
	}
}

func TestFailuresOfRequestsThatBeganBeforeTheEjectionDoNotProlongIt(t *testing.T) {
	var o outlier
	o.fail(1, unconnected)
	until := o.until
	for range 100 {
		if o.fail(2, unconnected) {
			t.Fatal("ejected anew while ejected")
		}
	}
	if o.until != until || o.times != 1 {
		t.Errorf("until %d (%d ejections), want %d (1)", o.until, o.times, until)
	}
}

func TestAProbeOfWhichNothingWasHeardIsFollowedByAnother(t *testing.T) {
	var o outlier
	o.fail(1, unconnected)
	now := o.until
	if !o.probe(now) || o.probe(now.add(time.Second)) {
		t.Fatal("want one probe")
	}
	if !o.probe(now.add(time.Minute)) {
		t.Error("no further probe, although the first was never decided")
	}
}

func TestRemoteInstancesAreBoundedAndForgotten(t *testing.T) {
	var r remoteOutliers
	for i := range 2 * maxRemotes {
		r.excludeIfFailing(connect.Instance{Cluster: "west", Name: string(rune('a'+i%26)) + string(rune('a'+i/26))}, 1, unconnected)
	}
	if got := len(r.failing); got != maxRemotes {
		t.Errorf("%d instances kept, want %d", got, maxRemotes)
	}
	if got := len(r.excluded(2, maxExcluded)); got != maxExcluded {
		t.Errorf("%d instances to exclude, want %d", got, maxExcluded)
	}
	later := instant(1).add(time.Hour)
	if !r.excludeIfFailing(connect.Instance{Cluster: "west", Name: "new"}, later, unconnected) {
		t.Error("no room for a new one after the old ones' time")
	}
	if got := r.excluded(later, maxExcluded); len(got) != 1 || got[0].Name != "new" {
		t.Errorf("excluded %v, want only west/new", got)
	}
	r.reinstate(connect.Instance{Cluster: "west", Name: "new"})
	if got := r.excluded(later, maxExcluded); len(got) != 0 {
		t.Errorf("excluded %v after a success, want none", got)
	}
}

func TestAHostIsSupersededWhenItIsOutOfServiceAndAnotherIsIn(t *testing.T) {
	w := newWorld(t)
	a, b := mesh.Endpoint{Instance: "a", Address: deadAddr(t), Ready: true}, mesh.Endpoint{Instance: "b", Address: deadAddr(t), Ready: true}
	unready := a
	unready.Ready = false
	for _, c := range []struct {
		name  string
		route []mesh.Endpoint
		fail  bool // connections to a fail
		want  bool
	}{
		{"in service", []mesh.Endpoint{a, b}, false, false},
		{"unready", []mesh.Endpoint{unready, b}, false, true},
		{"unready and nobody else", []mesh.Endpoint{unready}, false, false},
		{"taken away", []mesh.Endpoint{b}, false, true},
		{"taken away and nobody else", nil, false, false},
		{"not to be connected to", []mesh.Endpoint{a, b}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, service := w.set(t, &mesh.Route{Local: []mesh.Endpoint{a}})
			var try Attempts
			host, ok := service.pickHost(service.shared.now(), &try)
			if !ok {
				t.Fatal("nobody to ask")
			}
			set.Update([]*mesh.Route{{Destination: orders, Local: c.route}})
			if c.fail {
				if _, err := host.get(t.Context(), nil); err == nil {
					t.Fatal("connected to where nobody listens")
				}
			}
			if got := host.superseded(&try); got != c.want {
				t.Errorf("superseded %v, want %v", got, c.want)
			}
			host.done(host.service.shared.now(), &try, nil, Abandoned, 0)
		})
	}
}

func TestWhoDoesNotReachItsProgramIsLeftUntilItAnswers(t *testing.T) {
	w := newWorld(t)
	_, service := w.set(t, &mesh.Route{Local: at(serve(t, echo(w.orders)), ordersWest)})
	var a Attempts
	a.Begin(service, DefaultRetries(), time.Now())
	l, err := a.Next(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Done(Unserved, 0)
	host := func() HostStatus { return service.Status().Hosts[0] }
	if host().EjectedFor == 0 {
		t.Fatal("one answer that the program is not reached did not eject")
	}
	if l.Superseded() {
		t.Error("what its program still works on is waited for no more")
	}
	_ = l.Abort()
	h := l.Host()
	h.connected(service.shared.now())
	if host().EjectedFor == 0 {
		t.Error("that its sidecar takes connections was enough to come back")
	}
	h.succeeded(service.shared.now())
	if host().EjectedFor != 0 {
		t.Error("an answer was not enough to come back")
	}
}
