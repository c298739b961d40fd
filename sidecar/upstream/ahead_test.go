package upstream

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// fleet is the far instances behind one gateway, which prefers those that the caller
// does not hold.
type fleet struct {
	mu    sync.Mutex
	names []string
	paths map[string]int // opened
}

func (f *fleet) choose(head string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var held string
	for line := range strings.SplitSeq(head, "\r\n") {
		if strings.HasPrefix(line, connect.HeaderHeld) {
			held = line
		}
	}
	who := f.names[0]
	for _, n := range rand.Perm(len(f.names)) {
		if !strings.Contains(held, f.names[n]) {
			who = f.names[n]
			break
		}
	}
	f.paths[who]++
	return who
}

func (f *fleet) set(names ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names = names
}

func newFleet(t *testing.T, names ...string) (*fleet, *Service) {
	t.Helper()
	w := newWorld(t)
	f := &fleet{names: names, paths: map[string]int{}}
	g := fakeGateway{decide: func(head string) (string, func(net.Conn)) {
		return "HTTP/1.1 200 OK\r\nIsthmus-Cluster: west\r\nIsthmus-Instance: " + f.choose(head) + "\r\nIsthmus-Weight: 1\r\n\r\n", echo(w.orders)
	}}
	_, s := w.set(t, &mesh.Route{Gateways: at(serve(t, g.handle), "")})
	return f, s
}

// answered makes n requests one after the other and counts who answered.
func answered(t *testing.T, s *Service, n int) map[string]int {
	t.Helper()
	count := map[string]int{}
	for range n {
		h, conn := mustGet(t, s)
		exchange(t, conn, "hello")
		count[conn.Instance]++
		h.done(s.shared.now(), nil, conn, Answered, 0)
		h.put(conn)
	}
	return count
}

// only returns the host of a service that has one, with renewal left to the test.
func only(t *testing.T, s *Service) *Host {
	t.Helper()
	for _, h := range s.hosts {
		h.pool.mu.Lock()
		h.pool.renewal.running = true
		h.pool.mu.Unlock()
		return h
	}
	t.Fatal("no host")
	return nil
}

// round is a whole round of renewal.
func round(t *testing.T, h *Host) {
	h.pool.meet(t.Context())
	h.pool.renewOldest(t.Context())
	h.pool.level(t.Context())
}

func about3(n int) bool { return n >= 30 && n <= 37 }

func TestASequentialCallerUsesAllFarInstancesAndANewOneGetsItsShare(t *testing.T) {
	f, s := newFleet(t, "orders-1", "orders-2")
	h := only(t, s)
	answered(t, s, 1)
	round(t, h)
	if count := answered(t, s, 100); count["orders-1"] < 49 || count["orders-1"] > 51 {
		t.Errorf("of two: %v", count)
	}
	f.set("orders-1", "orders-2", "orders-3")
	round(t, h)
	if count := answered(t, s, 100); !about3(count["orders-1"]) || !about3(count["orders-2"]) || !about3(count["orders-3"]) {
		t.Errorf("of three: %v", count)
	}
	if n := h.pool.len(); n != 3 {
		t.Errorf("%d paths are kept for a caller that needs one for each of three", n)
	}
}

func TestALoneCallerKeepsOneWarmPathAndARoundReplacesIt(t *testing.T) {
	f, s := newFleet(t, "orders-1")
	h := only(t, s)
	answered(t, s, 10)
	if f.paths["orders-1"] != 1 {
		t.Errorf("%d paths were opened for ten requests", f.paths["orders-1"])
	}
	before := h.pool.instances.all[0].idle[0]
	round(t, h)
	if after := h.pool.instances.all[0].idle; len(after) != 1 || after[0] == before {
		t.Errorf("%d paths are kept, want one that is new", len(after))
	}
}

func TestAnInstanceThatIsNotOfferedTwiceIsGivenUp(t *testing.T) {
	f, s := newFleet(t, "orders-1", "orders-2")
	h := only(t, s)
	answered(t, s, 1)
	round(t, h)
	f.set("orders-2")
	for range 2 {
		for _, i := range h.pool.instances.all {
			if i.who.Name == "orders-1" {
				i.openedAt = -instant(renewAfter) // long ago
			}
		}
		round(t, h)
	}
	if count := answered(t, s, 10); count["orders-2"] != 10 {
		t.Errorf("after orders-1 has gone: %v", count)
	}
}

func TestUnderLoadANewInstanceGetsAsManyPathsAsTheOthers(t *testing.T) {
	f, s := newFleet(t, "orders-1")
	h := only(t, s)
	var busy []*Conn
	for range 10 {
		_, conn := mustGet(t, s)
		busy = append(busy, conn)
	}
	f.set("orders-1", "orders-2")
	round(t, h)
	_, first := mustGet(t, s) // takes the path that was opened ahead
	if first.Instance != "orders-2" {
		t.Fatalf("the new instance's path is not used: %s", first.Instance)
	}
	for range 3 {
		round(t, h)
		for h.pool.len() > 0 {
			_, conn := mustGet(t, s)
			busy = append(busy, conn)
		}
	}
	count := map[string]int{}
	for _, c := range append(busy, first) {
		count[c.Instance]++
	}
	if count["orders-2"] < 4 {
		t.Errorf("paths %v, want more to orders-2", count)
	}
}

func TestManyFarInstancesAreKeptWarmInTurn(t *testing.T) {
	var names []string
	for n := range 20 {
		names = append(names, fmt.Sprintf("i%02d.", n))
	}
	_, s := newFleet(t, names...)
	h := only(t, s)
	answered(t, s, 1)
	seen := map[string]bool{}
	for range 12 {
		round(t, h)
		for who := range answered(t, s, 2*maxWarm) {
			seen[who] = true
		}
		if n := h.pool.len(); n > maxWarm+1 {
			t.Fatalf("%d paths are kept, want %d", n, maxWarm)
		}
		for _, i := range h.pool.instances.all {
			i.openedAt -= instant(renewAfter)
		}
	}
	if len(seen) < maxWarm+4 {
		t.Errorf("only %v were asked in twelve rounds", slices.Sorted(maps.Keys(seen)))
	}
}

func TestClosingASetEndsWhatOpensPathsAhead(t *testing.T) {
	w := newWorld(t)
	reached := make(chan struct{})
	var once sync.Once
	f := &fleet{names: []string{"orders-1"}, paths: map[string]int{}}
	g := fakeGateway{decide: func(head string) (string, func(net.Conn)) {
		f.choose(head)
		if strings.Contains(head, connect.HeaderHeld) { // opened ahead: never answered
			once.Do(func() { close(reached) })
			return "", nil
		}
		return okReply, echo(w.orders)
	}}
	set, s := w.set(t, &mesh.Route{Gateways: at(serve(t, g.handle), "")})
	answered(t, s, 2)
	<-reached
	set.Close() // returns: the goroutine has ended
}

func BenchmarkRequestOnAPathToOneOfThreeFarInstances(b *testing.B) {
	s := newService(newShared(Config{}), orders, "orders")
	s.update(&mesh.Route{Destination: orders, Gateways: endpoints("gw", 1, 1)})
	var h *Host
	for _, h = range s.hosts {
		h.pool.renewal.running = true
	}
	for _, name := range []string{"orders-1", "orders-2", "orders-3"} {
		near, _ := net.Pipe()
		h.pool.put(&Conn{Conn: near, sock: near, host: h, dialConfig: s.dialConfig.Load(), Cluster: "west", Instance: name}, s.shared.now())
	}
	var try Attempts
	for b.Loop() {
		try = Attempts{}
		h, _ := s.pickHost(s.shared.now(), &try)
		conn, err := h.get(b.Context(), &try)
		if err != nil {
			b.Fatal(err)
		}
		h.done(s.shared.now(), &try, conn, Answered, 0)
		h.put(conn)
	}
	s.Close()
}
