package upstream

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var orders = mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Port: 80}

func endpoints(prefix string, ready, total int) []mesh.Endpoint {
	var eps []mesh.Endpoint
	for i := range total {
		name := fmt.Sprintf("%s-%d", prefix, i)
		eps = append(eps, mesh.Endpoint{Instance: name, Address: name + ":1", Ready: i < ready, Weight: 1})
	}
	return eps
}

func serviceOf(local, gateways []mesh.Endpoint) *Service {
	s := newService(newShared(Config{Cluster: "east"}), orders, orders.String())
	s.update(&mesh.Route{Destination: orders, Local: local, Gateways: gateways})
	return s
}

func host(t *testing.T, s *Service, addr string) *Host {
	t.Helper()
	for _, h := range s.hosts {
		if h.key.addr == addr {
			return h
		}
	}
	t.Fatalf("no host %s", addr)
	return nil
}

// tally picks n times, each for a new request that ends at once, and returns
// the share of each host.
func tally(t *testing.T, s *Service, now instant, n int) map[string]float64 {
	t.Helper()
	shares := make(map[string]float64)
	var try Attempts
	for range n {
		try = Attempts{}
		h, ok := s.pickHost(now, &try)
		if !ok {
			t.Fatal("nobody to pick")
		}
		shares[h.key.addr] += 1 / float64(n)
		h.done(now, &try, nil, Abandoned, 0)
	}
	return shares
}

// about fails unless got is within five standard deviations of want after n
// draws.
func about(t *testing.T, what string, got, want float64, n int) {
	t.Helper()
	if sigma := math.Sqrt(want * (1 - want) / float64(n)); math.Abs(got-want) > 5*sigma+1e-9 {
		t.Errorf("%s: %.4f of the traffic, want %.4f", what, got, want)
	}
}

func local(shares map[string]float64) (sum float64) {
	for addr, s := range shares {
		if addr[:2] != "gw" {
			sum += s
		}
	}
	return sum
}

func TestPicksFollowThePriorityArithmetic(t *testing.T) {
	const n = 50_000
	for _, tt := range []struct {
		ready int
		want  float64
	}{{100, 1}, {72, 1}, {50, 0.7}, {25, 0.35}, {0, 0}} {
		s := serviceOf(endpoints("ep", tt.ready, 100), endpoints("gw", 2, 2))
		about(t, fmt.Sprintf("%d %% healthy", tt.ready), local(tally(t, s, 5, n)), tt.want, n)
	}
}

func TestEqualHostsGetEqualShares(t *testing.T) {
	const n = 50_000
	s := serviceOf(endpoints("ep", 5, 5), nil)
	for _, h := range s.hosts {
		h.latency.observe(time.Millisecond, 5)
	}
	for addr, share := range tally(t, s, 5, n) {
		about(t, addr, share, 0.2, n)
	}
}

func TestIdleHostsGetTrafficByWeight(t *testing.T) {
	const n = 50_000
	eps := endpoints("ep", 2, 2)
	eps[1].Weight = 3
	shares := tally(t, serviceOf(eps, nil), 5, n)
	about(t, "weight 1", shares["ep-0:1"], 0.25, n)
	about(t, "weight 3", shares["ep-1:1"], 0.75, n)
}

func TestTheLeastLoadedOfTwoGetsTheRequest(t *testing.T) {
	const hosts, requests = 10, 10_000
	s := serviceOf(endpoints("ep", hosts, hosts), nil)
	for _, h := range s.hosts {
		h.latency.observe(time.Millisecond, 5)
	}
	var try Attempts
	for range requests { // which do not end
		try = Attempts{}
		if _, ok := s.pickHost(5, &try); !ok {
			t.Fatal("nobody to pick")
		}
	}
	// One random choice would spread the loads by some ±100; two keep them
	// within log log of each other.
	for _, h := range s.hosts {
		if got := h.active.Load(); got < requests/hosts-10 || got > requests/hosts+10 {
			t.Errorf("%s has %d of %d requests", h.key.addr, got, requests)
		}
	}
}

func TestASlowHostGetsLessUntilItsHistoryFades(t *testing.T) {
	const n = 20_000
	s := serviceOf(endpoints("ep", 2, 2), nil)
	now := instant(5)
	host(t, s, "ep-0:1").latency.observe(time.Millisecond, now)
	host(t, s, "ep-1:1").latency.observe(time.Second, now)
	if got := tally(t, s, now, n)["ep-1:1"]; got != 0 {
		t.Errorf("a host a thousand times slower gets %.3f of idle picks, want 0", got)
	}
	for range 100 { // the fast one is still used, the slow one is not
		now = now.add(latencyDecay / 10)
		host(t, s, "ep-0:1").latency.observe(time.Millisecond, now)
	}
	if got := tally(t, s, now, n)["ep-1:1"]; got == 0 {
		t.Error("a host that was slow once is never tried again")
	}
}

func TestAHostWithoutHistoryGetsOneRequestFirst(t *testing.T) {
	s := serviceOf(endpoints("ep", 2, 2), nil)
	host(t, s, "ep-0:1").latency.observe(time.Millisecond, 5)
	got := 0
	for range 50 {
		var try Attempts
		if h, _ := s.pickHost(5, &try); h.key.addr == "ep-1:1" {
			got++
		}
	}
	if got != 1 {
		t.Errorf("a host that has not answered yet got %d requests, want 1", got)
	}
}

func TestARequestGoesToTheOtherLocalHostsThenToTheGatewaysAndToNobodyTwice(t *testing.T) {
	for range 200 {
		s := serviceOf(endpoints("ep", 2, 2), endpoints("gw", 2, 2))
		var try Attempts
		var got []string
		for {
			h, ok := s.pickHost(5, &try)
			if !ok {
				break
			}
			got = append(got, h.key.addr[:2])
			if try.n != len(got) {
				t.Fatalf("%v: somebody was picked twice", got)
			}
			h.done(5, &try, nil, Broken, 0)
		}
		if fmt.Sprint(got) != "[ep ep gw gw]" {
			t.Fatalf("asked %v, want the two endpoints, then the two gateways", got)
		}
	}
}

func TestInTheNextRoundEverybodyIsAskedOnceMore(t *testing.T) {
	s := serviceOf(endpoints("ep", 2, 2), nil)
	var try Attempts
	for range 3 {
		for range 2 {
			h, ok := s.pickHost(5, &try)
			if !ok {
				t.Fatal("nobody left within a round")
			}
			h.done(5, &try, nil, Broken, 0)
		}
		if _, ok := s.pickHost(5, &try); ok {
			t.Fatal("somebody was asked twice within a round")
		}
		try.forgetRound()
	}
}

func TestAfterThreeLocalFailuresGatewaysAreNext(t *testing.T) {
	s := serviceOf(endpoints("ep", 20, 20), endpoints("gw", 2, 2))
	var try Attempts
	var got []string
	for {
		h, ok := s.pickHost(5, &try)
		if !ok {
			break
		}
		got = append(got, h.key.addr[:2])
		h.done(5, &try, nil, Broken, 0)
	}
	if fmt.Sprint(got) != "[ep ep ep gw gw ep ep ep]" {
		t.Errorf("asked %v, want three endpoints, the gateways, then others up to 8 attempts", got)
	}
}

func TestAConnectFailureEjectsAndOthersTakeOver(t *testing.T) {
	s := serviceOf(endpoints("ep", 10, 10), endpoints("gw", 2, 2))
	host(t, s, "ep-0:1").ejectIfFailing(5, unconnected, "refused")
	if got := tally(t, s, 6, 5_000)["ep-0:1"]; got != 0 {
		t.Errorf("an ejected host gets %.3f of the traffic, want 0", got)
	}
	for i := 1; i < 5; i++ {
		host(t, s, fmt.Sprintf("ep-%d:1", i)).ejectIfFailing(5, unconnected, "refused")
	}
	const n = 20_000
	about(t, "half of the hosts ejected", local(tally(t, s, 6, n)), 0.7, n)
}

func TestAfterAnEjectionOneRequestProbes(t *testing.T) {
	s := serviceOf(endpoints("ep", 2, 2), nil)
	bad := host(t, s, "ep-0:1")
	bad.ejectIfFailing(5, unconnected, "refused")
	now := instant(5).add(minEjection)
	var try Attempts
	probe, _ := s.pickHost(now, &try)
	if probe != bad {
		t.Fatalf("the first request after the ejection went to %s, want the probe", probe.key.addr)
	}
	if got := tally(t, s, now, 1000)["ep-0:1"]; got != 0 {
		t.Fatal("others went along with the probe")
	}
	probe.done(now, &try, &Conn{host: probe}, Answered, time.Millisecond)
	host(t, s, "ep-1:1").latency.observe(time.Millisecond, now)
	if got := tally(t, s, now, 1000)["ep-0:1"]; got == 0 {
		t.Error("a host that passed its probe gets no traffic")
	}
}

func TestWhenEverybodyIsEjectedSomebodyIsAskedAnyway(t *testing.T) {
	s := serviceOf(endpoints("ep", 1, 1), endpoints("gw", 1, 1))
	for _, h := range s.hosts {
		h.ejectIfFailing(5, unconnected, "refused")
	}
	var try Attempts
	first, ok := s.pickHost(6, &try)
	if !ok {
		t.Fatal("nobody is asked, although both are ready")
	}
	first.done(6, &try, nil, Broken, 0)
	second, ok := s.pickHost(6, &try)
	if !ok || second == first {
		t.Fatalf("the second attempt went to %v, want the other", second)
	}
	second.done(6, &try, &Conn{host: second}, Answered, time.Millisecond)
	if second.outlier.ejected() {
		t.Error("a host that answered is still ejected")
	}
}

func TestAnUnreadyHostIsNeverAsked(t *testing.T) {
	s := serviceOf(endpoints("ep", 0, 3), endpoints("gw", 0, 2))
	var try Attempts
	if h, ok := s.pickHost(5, &try); ok {
		t.Errorf("picked %s, which is not ready", h.key.addr)
	}
}

func TestGatewayErrorsInARowEjectTheHostTheyCameFrom(t *testing.T) {
	s := serviceOf(endpoints("ep", 2, 2), nil)
	bad := host(t, s, "ep-0:1")
	for i := range gatewayErrorsToEject {
		if bad.outlier.ejected() {
			t.Fatalf("ejected after %d", i)
		}
		bad.active.Add(1)
		bad.done(5, nil, &Conn{host: bad}, GatewayError, time.Millisecond)
	}
	if !bad.outlier.ejected() {
		t.Error("not ejected")
	}
}

func TestFailuresBehindAGatewayAreBlamedOnTheInstanceNotTheGateway(t *testing.T) {
	s := serviceOf(nil, endpoints("gw", 1, 1))
	var try Attempts
	for range gatewayErrorsToEject {
		gw, ok := s.pickHost(5, &try)
		if !ok {
			t.Fatal("the gateway may not be asked again")
		}
		gw.done(5, &try, &Conn{host: gw, Cluster: "west", Instance: "orders-2"}, GatewayError, time.Millisecond)
	}
	if host(t, s, "gw-0:1").outlier.failures != 0 {
		t.Error("the gateway was blamed")
	}
	if got := fmt.Sprint(s.remotes.excluded(6, 10)); got != "[west/orders-2]" {
		t.Errorf("excluded instances: %s, want west/orders-2", got)
	}
	if try.avoided == 0 || try.avoid[0].String() != "west/orders-2" {
		t.Errorf("the next attempt avoids %v, want west/orders-2", try.avoid[:try.avoided])
	}
	gw, _ := s.pickHost(6, new(Attempts))
	gw.done(6, nil, &Conn{host: gw, Cluster: "west", Instance: "orders-2"}, Answered, time.Millisecond)
	if got := s.remotes.excluded(6, 10); len(got) != 0 {
		t.Errorf("%v are excluded after an answer", got)
	}
}

func TestABrokenConnectionFromThePoolBlamesNobodyAndTheHostMayBeAskedAgain(t *testing.T) {
	s := serviceOf(endpoints("ep", 1, 1), nil)
	var try Attempts
	h, _ := s.pickHost(5, &try)
	h.done(5, &try, &Conn{host: h, Reused: true}, Broken, 0)
	if h.troubled.Load() {
		t.Error("the host was blamed")
	}
	if again, ok := s.pickHost(5, &try); !ok || again != h {
		t.Error("the host may not be asked again")
	}
}
