package upstream

import (
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// grown is a cluster that is past its youth.
func grown(local, gateways []mesh.Endpoint) (*Service, func(d time.Duration)) {
	s := serviceOf(local, gateways)
	skip := func(d time.Duration) { s.shared.base = s.shared.base.Add(-d) }
	skip(time.Hour)
	return s, skip
}

func route(local, gateways []mesh.Endpoint) *mesh.Route {
	return &mesh.Route{Destination: orders, Local: local, Gateways: gateways}
}

func TestTrafficReturnsToALocalClusterOverTheWarmupAndThenWholly(t *testing.T) {
	const n = 20_000
	gateways := endpoints("gw", 2, 2)
	s, skip := grown(endpoints("ep", 2, 2), gateways)
	s.update(route(endpoints("ep", 0, 2), gateways))
	if got := local(tally(t, s, s.shared.now(), 1000)); got != 0 {
		t.Fatalf("%.3f of the traffic goes to a cluster that is down", got)
	}
	skip(time.Minute)
	s.update(route(endpoints("ep", 2, 2), gateways))
	start := s.candidates.Load().share.start
	for _, tt := range []struct {
		after time.Duration
		want  float64
	}{{0, 0}, {2500 * time.Millisecond, 0.25}, {5 * time.Second, 0.5}, {defaultWarmup, 1}, {time.Hour, 1}} {
		about(t, fmt.Sprintf("%v after the return", tt.after), local(tally(t, s, start.add(tt.after), n)), tt.want, n)
	}
}

func TestARepeatedUpdateDoesNotProlongTheWarmup(t *testing.T) {
	gateways := endpoints("gw", 2, 2)
	s, skip := grown(endpoints("ep", 0, 2), gateways)
	s.update(route(endpoints("ep", 1, 2), gateways)) // toward 70 %
	for range 10 {
		skip(time.Second)
		s.update(route(endpoints("ep", 1, 2), gateways))
	}
	const n = 20_000
	about(t, "one of two back for 10 s", local(tally(t, s, s.shared.now(), n)), 0.7, n)
}

func TestTrafficReturnsAtOnceWhenThereIsNobodyElse(t *testing.T) {
	gateways := endpoints("gw", 0, 2)
	s, _ := grown(endpoints("ep", 0, 2), gateways)
	s.update(route(endpoints("ep", 2, 2), gateways))
	if got := local(tally(t, s, s.shared.now(), 1000)); got < 0.9999 {
		t.Errorf("local share %.3f, want 1", got)
	}
}

func TestAYoungClusterNeedsNoWarmup(t *testing.T) {
	gateways := endpoints("gw", 2, 2)
	s := serviceOf(nil, gateways)
	s.update(route(endpoints("ep", 1, 1), gateways))
	if got := local(tally(t, s, s.shared.now(), 1000)); got < 0.9999 {
		t.Errorf("local share %.3f, want 1", got)
	}
}

func TestScalingOutDoesNotSendTrafficAway(t *testing.T) {
	gateways := endpoints("gw", 2, 2)
	s, _ := grown(endpoints("ep", 1, 1), gateways)
	s.update(route(endpoints("ep", 4, 4), gateways))
	if got := local(tally(t, s, s.shared.now(), 1000)); got < 0.9999 {
		t.Errorf("local share %.3f after scaling from 1 to 4, want 1", got)
	}
}

func TestAHostThatComesBackGetsItsShareOverTheWarmup(t *testing.T) {
	const n = 20_000
	s, _ := grown(endpoints("ep", 1, 2), nil)
	s.update(route(endpoints("ep", 2, 2), nil))
	start := instant(host(t, s, "ep-1:1").slowStartSince.Load())
	about(t, "at once", tally(t, s, start.add(time.Second/10), n)["ep-1:1"], 0.1/1.1, n)
	about(t, "half way", tally(t, s, start.add(defaultWarmup/2), n)["ep-1:1"], 0.5/1.5, n)
	about(t, "warm", tally(t, s, start.add(defaultWarmup+1), n)["ep-1:1"], 0.5, n)
}

func TestTheControlPlanesWordThatAHostIsBackEndsItsEjection(t *testing.T) {
	s := serviceOf(endpoints("ep", 2, 2), nil)
	h := host(t, s, "ep-1:1")
	h.ejectIfFailing(s.shared.now(), unconnected, "refused")
	s.update(route(endpoints("ep", 1, 2), nil))
	if !h.outlier.ejected() {
		t.Fatal("the ejection ended when the host became unready")
	}
	s.update(route(endpoints("ep", 2, 2), nil))
	if host(t, s, "ep-1:1") != h || h.outlier.ejected() {
		t.Error("the host is another one or still ejected")
	}
}
