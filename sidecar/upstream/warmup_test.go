package upstream

import (
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// grown is a cluster that is past its youth.
func grown(local, gateways []mesh.Endpoint) (*Cluster, func(d time.Duration)) {
	c := clusterOf(local, gateways)
	skip := func(d time.Duration) { c.env.base = c.env.base.Add(-d) }
	skip(time.Hour)
	return c, skip
}

func route(local, gateways []mesh.Endpoint) *mesh.Route {
	return &mesh.Route{Destination: orders, Local: local, Gateways: gateways}
}

func TestTrafficReturnsToALocalClusterOverTheWarmupAndThenWholly(t *testing.T) {
	const n = 20_000
	gateways := endpoints("gw", 2, 2)
	c, skip := grown(endpoints("ep", 2, 2), gateways)
	c.update(route(endpoints("ep", 0, 2), gateways))
	if got := local(tally(t, c, c.env.now(), 1000)); got != 0 {
		t.Fatalf("%.3f of the traffic goes to a cluster that is down", got)
	}
	skip(time.Minute)
	c.update(route(endpoints("ep", 2, 2), gateways))
	start := c.state.Load().share.start
	for _, tt := range []struct {
		after time.Duration
		want  float64
	}{{0, 0}, {2500 * time.Millisecond, 0.25}, {5 * time.Second, 0.5}, {defaultWarmup, 1}, {time.Hour, 1}} {
		about(t, fmt.Sprintf("%v after the return", tt.after), local(tally(t, c, start.add(tt.after), n)), tt.want, n)
	}
}

func TestARepeatedUpdateDoesNotProlongTheWarmup(t *testing.T) {
	gateways := endpoints("gw", 2, 2)
	c, skip := grown(endpoints("ep", 0, 2), gateways)
	c.update(route(endpoints("ep", 1, 2), gateways)) // toward 70 %
	for range 10 {
		skip(time.Second)
		c.update(route(endpoints("ep", 1, 2), gateways))
	}
	const n = 20_000
	about(t, "one of two back for 10 s", local(tally(t, c, c.env.now(), n)), 0.7, n)
}

func TestTrafficReturnsAtOnceWhenThereIsNobodyElse(t *testing.T) {
	gateways := endpoints("gw", 0, 2)
	c, _ := grown(endpoints("ep", 0, 2), gateways)
	c.update(route(endpoints("ep", 2, 2), gateways))
	if got := local(tally(t, c, c.env.now(), 1000)); got < 0.9999 {
		t.Errorf("local share %.3f, want 1", got)
	}
}

func TestAYoungClusterNeedsNoWarmup(t *testing.T) {
	gateways := endpoints("gw", 2, 2)
	c := clusterOf(nil, gateways)
	c.update(route(endpoints("ep", 1, 1), gateways))
	if got := local(tally(t, c, c.env.now(), 1000)); got < 0.9999 {
		t.Errorf("local share %.3f, want 1", got)
	}
}

func TestScalingOutDoesNotSendTrafficAway(t *testing.T) {
	gateways := endpoints("gw", 2, 2)
	c, _ := grown(endpoints("ep", 1, 1), gateways)
	c.update(route(endpoints("ep", 4, 4), gateways))
	if got := local(tally(t, c, c.env.now(), 1000)); got < 0.9999 {
		t.Errorf("local share %.3f after scaling from 1 to 4, want 1", got)
	}
}

func TestAHostThatComesBackGetsItsShareOverTheWarmup(t *testing.T) {
	const n = 20_000
	c, _ := grown(endpoints("ep", 1, 2), nil)
	c.update(route(endpoints("ep", 2, 2), nil))
	start := instant(host(t, c, "ep-1:1").warm.Load())
	about(t, "at once", tally(t, c, start.add(time.Second/10), n)["ep-1:1"], 0.1/1.1, n)
	about(t, "half way", tally(t, c, start.add(defaultWarmup/2), n)["ep-1:1"], 0.5/1.5, n)
	about(t, "warm", tally(t, c, start.add(defaultWarmup+1), n)["ep-1:1"], 0.5, n)
}

func TestTheControlPlanesWordThatAHostIsBackEndsItsEjection(t *testing.T) {
	c := clusterOf(endpoints("ep", 2, 2), nil)
	h := host(t, c, "ep-1:1")
	h.failed(c.env.now(), true, "refused")
	c.update(route(endpoints("ep", 1, 2), nil))
	if !h.outlier.ejected() {
		t.Fatal("the ejection ended when the host became unready")
	}
	c.update(route(endpoints("ep", 2, 2), nil))
	if host(t, c, "ep-1:1") != h || h.outlier.ejected() {
		t.Error("the host is another one or still ejected")
	}
}
