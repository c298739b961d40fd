package upstream

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Requests keep being answered while routes change under them, one of the hosts
// is dead, and somebody looks at the status.
func TestRequestsAreAnsweredWhileRoutesChange(t *testing.T) {
	const workers, requests = 8, 200
	echo := func(c net.Conn) { _, _ = io.Copy(c, c) }
	a, b, dead := serve(t, echo), serve(t, echo), deadAddr(t)
	tables := [][]mesh.Endpoint{
		at(a, ""),
		append(at(a, ""), at(dead, "")...),
		append(at(a, ""), at(b, "")...),
		append(at(dead, ""), append(at(a, ""), at(b, "")...)...),
	}
	s := New(Config{Warmup: 50 * time.Millisecond})
	defer s.Close()
	update := func(i int) {
		s.Update([]*mesh.Route{{Destination: orders, Protocol: mesh.HTTP, Local: tables[i%len(tables)]}})
	}
	update(0)
	stop := make(chan struct{})
	var changing, working sync.WaitGroup
	changing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				update(i)
				s.Service(orders).Status()
			}
		}
	})
	for range workers {
		working.Go(func() {
			var try Attempts
			for range requests {
				if !ask(t, s.Service(orders), &try) {
					return
				}
			}
		})
	}
	working.Wait()
	close(stop)
	changing.Wait()
	service := s.Service(orders)
	for _, h := range service.Status().Hosts {
		if h.Active != 0 {
			t.Errorf("host %s: %d requests active at the end", h.Address, h.Active)
		}
	}
}

// ask is the loop of the package comment.
func ask(t *testing.T, s *Service, attempts *Attempts) bool {
	attempts.Begin(s, DefaultRetries(), time.Now())
	lease, err := attempts.Next(t.Context(), nil)
	if err != nil {
		t.Errorf("nobody left after %d attempts: %v", attempts.Asked(), err)
		return false
	}
	b := []byte("ping")
	start := time.Now()
	_, err = lease.Write(b)
	if err == nil {
		_, err = io.ReadFull(lease, b)
	}
	if err != nil {
		t.Errorf("exchange: %v", err)
		lease.Done(Broken, 0)
		_ = lease.Close()
		return false
	}
	lease.Done(Answered, time.Since(start))
	lease.Return()
	return true
}

func TestCountersTellWhatHappenedAndEndWithTheRoute(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	s := New(Config{})
	defer s.Close()
	if err := s.Register(reg); err != nil {
		t.Fatal(err)
	}
	s.Update([]*mesh.Route{{Destination: orders, Local: append(at(serve(t, func(c net.Conn) { _, _ = io.Copy(c, c) }), ""), at(deadAddr(t), "")...)}})
	var try Attempts
	for range 20 {
		if !ask(t, s.Service(orders), &try) {
			return
		}
	}
	counted := func(destination string) map[string]float64 {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		sums := make(map[string]float64)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if l.GetName() == "destination" && l.GetValue() == destination {
						sums[f.GetName()] += m.GetCounter().GetValue()
					}
				}
			}
		}
		return sums
	}
	got := counted(orders.String())
	if got["isthmus_upstream_connections_total"] != 1 || got["isthmus_upstream_connections_reused_total"] != 19 ||
		got["isthmus_upstream_connection_failures_total"] < 1 || got["isthmus_upstream_ejections_total"] < 1 {
		t.Errorf("counted %v", got)
	}
	s.Update(nil)
	if got := counted(orders.String()); len(got) != 0 {
		t.Errorf("series of a route that is gone: %v", got)
	}
}

func BenchmarkRequestOnAPooledConnection(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	s := Static(Config{}, l.Addr().String(), mesh.HTTP)
	defer s.Close()
	var try Attempts
	for b.Loop() { // everything but the exchange: pick, liveness check, put
		s.budget.request(s.shared.now())
		try = Attempts{}
		h, _ := s.pickHost(s.shared.now(), &try)
		conn, err := h.get(b.Context(), &try)
		if err != nil {
			b.Fatal(err)
		}
		h.done(h.service.shared.now(), &try, conn, Answered, time.Millisecond)
		h.put(conn)
	}
}
