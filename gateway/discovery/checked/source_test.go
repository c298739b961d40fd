package checked

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/health"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// fixed describes what the test sets.
type fixed struct {
	state.Store[[]discovery.Described]
}

func (*fixed) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// described is one service, shop/orders, whose instances are named by address.
func described(addrs ...string) []discovery.Described {
	check := health.Check{Interval: health.MinInterval}.WithDefaults()
	s := discovery.Service{Name: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Ports: []mesh.ServicePort{{Port: 80, Protocol: mesh.TCP}}}
	for _, a := range addrs {
		s.Ports[0].Endpoints = append(s.Ports[0].Endpoints, mesh.Endpoint{Instance: a, Address: a, Weight: 1})
	}
	return []discovery.Described{{Service: s, Check: check}}
}

func listen(t *testing.T, addr string) (net.Listener, string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return l, l.Addr().String()
}

func start(t *testing.T, from Describer) *Source {
	t.Helper()
	s, err := New(from, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// until waits for a set in which exactly the endpoints at ready are ready, of all.
func until(t *testing.T, s *Source, all int, ready ...string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		set, past := s.Snapshot()
		if len(set) == 1 && len(set[0].Ports[0].Endpoints) == all {
			n := 0
			for _, e := range set[0].Ports[0].Endpoints {
				for _, r := range ready {
					if e.Address == r && e.Ready {
						n++
					}
				}
				if e.Ready {
					n += 1000
				}
			}
			if n == 1001*len(ready) {
				return
			}
		}
		select {
		case <-past:
		case <-deadline:
			t.Fatalf("never saw %d endpoints with %v ready; last: %+v", all, ready, set)
		}
	}
}

func TestTheFirstSetHasEveryEndpointChecked(t *testing.T) {
	_, up := listen(t, "127.0.0.1:0")
	closed, down := listen(t, "127.0.0.1:0")
	closed.Close()
	var from fixed
	s := start(t, &from)
	if set, _ := s.Snapshot(); set != nil {
		t.Fatalf("a set is known before there is one: %v", set)
	}
	_, past := s.Snapshot()
	from.Set(described(up, down))
	<-past
	set, _ := s.Snapshot()
	e := set[0].Ports[0].Endpoints
	if !e[0].Ready || e[1].Ready {
		t.Errorf("the first set is %+v", e)
	}
}

func TestAnEndpointThatDiesIsUnreadyAndOneThatComesBackIsReady(t *testing.T) {
	l, addr := listen(t, "127.0.0.1:0")
	_, other := listen(t, "127.0.0.1:0")
	var from fixed
	from.Set(described(addr, other))
	s := start(t, &from)
	until(t, s, 2, addr, other)
	l.Close()
	until(t, s, 2, other)
	listen(t, addr)
	until(t, s, 2, addr, other)
}

func TestAChangedSetKeepsWhatIsKnownAndWaitsForWhatIsNew(t *testing.T) {
	_, a := listen(t, "127.0.0.1:0")
	_, b := listen(t, "127.0.0.1:0")
	var from fixed
	from.Set(described(a))
	s := start(t, &from)
	until(t, s, 1, a)
	_, past := s.Snapshot()
	from.Set(described(a, b))
	<-past // the first set with b in it has b checked
	set, _ := s.Snapshot()
	if e := set[0].Ports[0].Endpoints; len(e) != 2 || !e[0].Ready || !e[1].Ready {
		t.Errorf("got %+v", e)
	}
	from.Set(described(b))
	until(t, s, 1, b)
	from.Set([]discovery.Described{})
	for {
		set, past := s.Snapshot()
		if set != nil && len(set) == 0 {
			return
		}
		<-past
	}
}

func TestADeathIsToldAlsoWhileNewEndpointsKeepComing(t *testing.T) {
	l, a := listen(t, "127.0.0.1:0")
	var from fixed
	from.Set(described(a))
	s := start(t, &from)
	until(t, s, 1, a)
	l.Close()
	// Another endpoint that does not answer at all, again and again.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	slow := described("x")[0]
	slow.Service.Name.Name = "slow"
	slow.Check = health.Check{Kind: health.HTTP, Timeout: time.Minute}.WithDefaults()
	for began, i := time.Now(), 0; ; i++ {
		next := slow
		next.Service.Ports = []mesh.ServicePort{{Port: 80, Protocol: mesh.HTTP, Endpoints: []mesh.Endpoint{
			{Instance: strconv.Itoa(i), Address: silent.Addr().String(), Weight: 1},
		}}}
		from.Set(append(described(a), next))
		time.Sleep(patience / 10)
		if set, _ := s.Snapshot(); !set[0].Ports[0].Endpoints[0].Ready {
			return
		}
		if time.Since(began) > 3*patience {
			t.Fatal("the endpoint that died still counts as ready")
		}
	}
}

func TestAServiceThatIsNotCheckedIsReady(t *testing.T) {
	d := described("127.0.0.1:1")
	d[0].Check = health.Check{Kind: health.None}
	var from fixed
	from.Set(d)
	until(t, start(t, &from), 1, "127.0.0.1:1")
}
