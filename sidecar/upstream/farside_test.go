package upstream

import (
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// farSide is a gateway with instances behind it, whose sidecars speak what offers says, in memory.
type farSide struct {
	set     *Set
	service *Service
	offers  []string
	names   func(head string) string // whom a path leads to; nil: orders-1
	serve   func(*streams.Stream)    // nil: after 10 ms 200
	opening time.Duration            // how long it takes to open a path; 0: 1 ms

	mu    sync.Mutex
	paths []*farPath // that were opened
}

type farPath struct {
	name  string
	head  string
	below net.Conn
	conn  *streams.Conn
}

// newFarSide is for a test in virtual time, which ends it by close.
func newFarSide(t *testing.T) *farSide {
	t.Helper()
	w := newWorld(t)
	f := &farSide{offers: []string{"h2", "http/1.1"}}
	g := &fakeGateway{decide: func(head string) (string, func(net.Conn)) {
		name := "orders-1"
		if f.names != nil {
			f.mu.Lock()
			name = f.names(head)
			f.mu.Unlock()
		}
		reply := "HTTP/1.1 200 OK\r\nIsthmus-Cluster: west\r\nIsthmus-Instance: " + name + "\r\n\r\n"
		return reply, func(c net.Conn) {
			over := tls.Server(c, w.orders.ServerTLS(identitytest.AnyWorkload(), f.offers...))
			defer over.Close()
			if over.Handshake() != nil {
				return
			}
			if over.ConnectionState().NegotiatedProtocol != "h2" {
				f.opened(&farPath{name, head, c, nil})
				_, _ = over.Read(make([]byte, 1))
				return
			}
			conn := streams.Server(over, streams.Config{})
			f.opened(&farPath{name, head, c, conn})
			_ = conn.Serve(f.serveOne)
		}
	}}
	f.set = New(Config{Identity: w.caller, Cluster: "east", Dial: pipes(func(_ string, c net.Conn) {
		time.Sleep(max(f.opening, time.Millisecond))
		g.handle(c)
	})})
	f.set.Update([]*mesh.Route{{Destination: orders, Protocol: mesh.HTTP, Identities: []string{ordersWest}, Gateways: at("gw:1", "")}})
	f.service = f.set.Service(orders)
	return f
}

func (f *farSide) opened(p *farPath) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paths = append(f.paths, p)
}

func (f *farSide) serveOne(s *streams.Stream) {
	if f.serve != nil {
		f.serve(s)
		return
	}
	time.Sleep(10 * time.Millisecond)
	ok(s)
}

// count returns how many paths were opened.
func (f *farSide) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.paths)
}

func (f *farSide) last() *farPath {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.paths[len(f.paths)-1]
}

// quiet leaves no path to be opened ahead.
func (f *farSide) quiet() *pool {
	for _, h := range f.service.hosts {
		h.pool.mu.Lock()
		defer h.pool.mu.Unlock()
		h.pool.renewal.running, h.pool.queue.widens = true, true
		return &h.pool
	}
	return nil
}

// warm makes one request, so that there is a path.
func (f *farSide) warm(t *testing.T) {
	t.Helper()
	if err := roundTrip(mustLease(t, begin(f.service))); err != nil {
		t.Fatal(err)
	}
}

// together makes n requests at a time and returns how many of them each instance answered.
func (f *farSide) together(t *testing.T, n int) map[string]int {
	t.Helper()
	count := map[string]int{}
	var mu sync.Mutex
	var callers sync.WaitGroup
	for range n {
		callers.Go(func() {
			l, err := begin(f.service).Next(t.Context(), nil)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			count[l.Instance]++
			mu.Unlock()
			if err := roundTrip(l); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	return count
}

// hold keeps a stream until it is reset.
func hold(s *streams.Stream) {
	for s.Err() == nil {
		time.Sleep(time.Second)
	}
}

// inBubble runs test against a far side in virtual time.
func inBubble(t *testing.T, test func(*testing.T, *farSide)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFarSide(t)
		defer func() {
			f.set.Close()
			synctest.Wait()
			for _, p := range f.paths {
				_ = p.below.Close()
			}
			time.Sleep(2 * time.Second) // hold
		}()
		test(t, f)
	})
}
