package upstream

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// waitingRoom returns a gateway's host with paths in use, of which an exchange takes 1 ms and
// the opening 20 ms.
func waitingRoom(t *testing.T, paths int) (*Host, []*Conn) {
	t.Helper()
	s := newService(newShared(Config{}), orders, "orders")
	s.update(&mesh.Route{Destination: orders, Gateways: endpoints("gw", 1, 1)})
	var h *Host
	for _, h = range s.hosts {
		h.pool.renewal.running = true // not what is tested
	}
	conns := make([]*Conn, paths)
	for i := range conns {
		near, _ := net.Pipe()
		conns[i] = &Conn{Conn: near, sock: near, host: h, dialConfig: s.dialConfig.Load(), Cluster: "west", Instance: "orders-1"}
		h.pool.join(conns[i], s.shared.now(), true)
	}
	h.pool.queue.took, h.pool.queue.opened = time.Millisecond, 20*time.Millisecond
	t.Cleanup(s.Close)
	return h, conns
}

// giveBack ends an exchange.
func giveBack(h *Host, c *Conn) {
	h.active.Add(1)
	h.done(h.service.shared.now(), nil, c, Answered, 0)
	h.put(c)
}

func TestABurstWaitsForThePathsThatAreInUseRatherThanToOpenOneEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, conns := waitingRoom(t, 8)
		var callers sync.WaitGroup
		began := time.Now()
		for range 42 {
			callers.Go(func() {
				c := h.pool.takeOrAwait(t.Context(), new(Attempts))
				if c == nil {
					t.Error("a request of a short burst opens a path of its own")
					return
				}
				time.Sleep(time.Millisecond) // the exchange
				giveBack(h, c)
			})
		}
		synctest.Wait()
		for _, c := range conns {
			giveBack(h, c)
		}
		callers.Wait()
		if took := time.Since(began); took > 6*time.Millisecond {
			t.Errorf("42 exchanges on 8 paths took %s", took)
		}
	})
}

func TestARequestThatNoPathBecomesFreeForOpensItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := waitingRoom(t, 1)
		began := time.Now()
		if c := h.pool.takeOrAwait(t.Context(), new(Attempts)); c != nil || time.Since(began) != 20*time.Millisecond {
			t.Errorf("it got %v after %s", c, time.Since(began))
		}
		h.pool.queue.took = 50 * time.Millisecond
		began = time.Now()
		if c := h.pool.takeOrAwait(t.Context(), new(Attempts)); c != nil || time.Since(began) != 0 {
			t.Errorf("although exchanges take longer than to open a path it waited %s", time.Since(began))
		}
	})
}

func TestMorePathsAreOpenedWhileRequestsWaitWithoutABreak(t *testing.T) {
	f, s := newFleet(t, "orders-1")
	h, busy := mustGet(t, s)
	defer busy.Close()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	waits := make(chan *Conn, 1)
	for _, test := range []struct {
		long time.Duration // that somebody has waited
		want int           // paths
	}{{time.Second, 1}, {time.Hour, 2}} {
		h.pool.mu.Lock()
		h.pool.renewal.running = true // not what is tested
		h.pool.queue.took, h.pool.queue.opened = time.Nanosecond, time.Minute
		h.pool.queue.waiting, h.pool.queue.since = []chan *Conn{waits}, s.shared.now().add(-test.long)
		h.pool.mu.Unlock()
		if c := h.pool.takeOrAwait(gone, &Attempts{streams: true}); c != nil {
			t.Errorf("a request that nobody gave a path has %v", c)
		}
		s.shared.background.running.Wait()
		f.mu.Lock()
		if n := f.paths["orders-1"]; n != test.want {
			t.Errorf("%d paths after somebody waited for %v, want %d", n, test.long, test.want)
		}
		f.mu.Unlock()
	}
	select {
	case c := <-waits:
		_ = c.Close()
	default:
		t.Error("who waits was not given the path")
	}
}
