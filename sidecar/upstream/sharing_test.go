package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/http2"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// h2server is an endpoint that speaks HTTP/2.
type h2server struct {
	addr     string
	accepted atomic.Int32
	mu       sync.Mutex
	conns    []*streams.Conn
}

// newH2Server serves until the test ends: over TLS as src, or in plain when that is nil.
func newH2Server(t *testing.T, src *identity.Source, f func(*streams.Stream)) *h2server {
	t.Helper()
	s := &h2server{}
	s.addr = serve(t, func(c net.Conn) {
		if src != nil {
			over := tls.Server(c, src.ServerTLS(identitytest.AnyWorkload(), "h2", "http/1.1"))
			if over.Handshake() != nil || over.ConnectionState().NegotiatedProtocol != "h2" {
				_ = over.Close()
				return
			}
			c = over
		}
		s.accepted.Add(1)
		conn := streams.Server(c, streams.Config{})
		s.mu.Lock()
		s.conns = append(s.conns, conn)
		s.mu.Unlock()
		_ = conn.Serve(f)
	})
	return s
}

// breakAll cuts the connections.
func (s *h2server) breakAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Abort(net.ErrClosed)
	}
}

// ok answers 200 without a body.
func ok(s *streams.Stream) {
	if _, _, err := s.ReadHead(nil); err == nil {
		_ = s.WriteResponse(200, nil, true)
	}
}

// begin begins a request that may be a stream.
func begin(s *Service) *Attempts {
	a := new(Attempts)
	a.Begin(s, DefaultRetries(), time.Now())
	a.Streams()
	return a
}

// roundTrip makes one request on the lease and ends that.
func roundTrip(l *Lease) error {
	head := &http2.RequestHead{Method: []byte("GET"), Scheme: "http", Authority: []byte("orders.shop.mesh"), Path: []byte("/")}
	err := l.Stream().WriteRequest(head, nil, true)
	if err == nil {
		_, _, err = l.Stream().ReadHead(nil)
	}
	if err != nil {
		l.Done(Broken, 0)
		_ = l.Abort()
		return err
	}
	l.Done(Answered, time.Millisecond)
	l.Return()
	return nil
}

// mustLease is the next lease, which is a stream.
func mustLease(t *testing.T, a *Attempts) *Lease {
	t.Helper()
	l, err := a.Next(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if l.Stream() == nil {
		t.Fatal("the lease is not a stream")
	}
	return l
}

func TestABurstOfRequestsSharesOneConnection(t *testing.T) {
	w := newWorld(t)
	server := newH2Server(t, w.orders, ok)
	_, service := w.set(t, &mesh.Route{Local: at(server.addr, ordersWest)})
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() {
			for range 20 {
				l, err := begin(service).Next(t.Context(), nil)
				if err == nil {
					err = roundTrip(l)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	if n := server.accepted.Load(); n != 1 {
		t.Errorf("1,000 requests of 50 callers took %d connections", n)
	}
}

func TestTheNextConnectionIsOpenedWhenAllAreFull(t *testing.T) {
	w := newWorld(t)
	server := newH2Server(t, w.orders, ok)
	_, service := w.set(t, &mesh.Route{Local: at(server.addr, ordersWest)})
	var held []*Lease
	for range 250 {
		held = append(held, mustLease(t, begin(service)))
	}
	if n := server.accepted.Load(); n != 3 {
		t.Errorf("250 streams took %d connections", n)
	}
	for _, l := range held {
		if err := roundTrip(l); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhoDoesNotNegotiateHTTP2GetsConnectionsOfTheirOwn(t *testing.T) {
	w := newWorld(t)
	_, service := w.set(t, &mesh.Route{Local: at(serve(t, echo(w.orders)), ordersWest)})
	for _, reused := range []bool{false, true} {
		l, err := begin(service).Next(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if l.Stream() != nil || l.Reused != reused {
			t.Fatalf("stream %v, reused %v", l.Stream(), l.Reused)
		}
		exchange(t, l, "hello")
		l.Done(Answered, time.Millisecond)
		l.Return()
	}
}

func TestTheEndOfASharedConnectionIsOneFailureAndItsRequestsGoOn(t *testing.T) {
	w := newWorld(t)
	arrived := make(chan struct{}, 100)
	var stuck atomic.Bool
	stuck.Store(true)
	server := newH2Server(t, w.orders, func(s *streams.Stream) {
		if stuck.Load() {
			_, _, _ = s.ReadHead(nil)
			arrived <- struct{}{}
			_ = s.Await()
			return
		}
		ok(s)
	})
	_, service := w.set(t, &mesh.Route{Local: at(server.addr, ordersWest)})
	tries := make([]*Attempts, 50)
	leases := make([]*Lease, len(tries))
	for i := range tries {
		tries[i] = begin(service)
		leases[i] = mustLease(t, tries[i])
		head := &http2.RequestHead{Method: []byte("POST"), Scheme: "http", Authority: []byte("orders.shop.mesh"), Path: []byte("/")}
		if err := leases[i].Stream().WriteRequest(head, nil, false); err != nil {
			t.Fatal(err)
		}
	}
	for range tries {
		<-arrived
	}
	stuck.Store(false)
	server.breakAll()
	for i, l := range leases {
		if _, _, err := l.Stream().ReadHead(nil); !errors.As(err, new(*streams.ConnError)) {
			t.Errorf("the answer ended with %v", err)
		}
		if !l.Sent() || l.Answered() {
			t.Errorf("sent %v, answered %v", l.Sent(), l.Answered())
		}
		l.Done(Broken, 0)
		_ = l.Abort()
		if err := roundTrip(mustLease(t, tries[i])); err != nil {
			t.Error(err)
		}
	}
	for _, h := range service.hosts {
		if h.outlier.ejected() || h.outlier.failures > 1 {
			t.Errorf("the host counts %d failures", h.outlier.failures)
		}
	}
}

func TestWhatAHostRefusesIsNoFailureOfItsOwn(t *testing.T) {
	w := newWorld(t)
	server := newH2Server(t, w.orders, func(s *streams.Stream) { s.Reset(http2.RefusedStream) })
	_, service := w.set(t, &mesh.Route{Local: at(server.addr, ordersWest)})
	for range gatewayErrorsToEject + 2 {
		l := mustLease(t, begin(service))
		var reset *streams.ResetError
		if err := roundTrip(l); !errors.As(err, &reset) || !reset.Unprocessed {
			t.Fatalf("the answer ended with %v", err)
		}
	}
	for _, h := range service.hosts {
		if h.outlier.ejected() || h.outlier.failures > 0 {
			t.Errorf("the host counts %d failures", h.outlier.failures)
		}
	}
}

func TestAHostThatResetsItsStreamsIsEjected(t *testing.T) {
	w := newWorld(t)
	server := newH2Server(t, w.orders, func(s *streams.Stream) { s.Reset(http2.InternalError) })
	_, service := w.set(t, &mesh.Route{Local: at(server.addr, ordersWest)})
	for range gatewayErrorsToEject {
		if err := roundTrip(mustLease(t, begin(service))); err == nil {
			t.Fatal("the stream was not reset")
		}
	}
	for _, h := range service.hosts {
		if !h.outlier.ejected() {
			t.Errorf("it counts %d failures, on a connection that lives", h.outlier.failures)
		}
	}
}

func TestWhatIsGivenUpHereIsNoFailureOfTheHost(t *testing.T) {
	w := newWorld(t)
	server := newH2Server(t, w.orders, func(s *streams.Stream) {
		_, _, _ = s.ReadHead(nil)
		_ = s.Await()
	})
	_, service := w.set(t, &mesh.Route{Local: at(server.addr, ordersWest)})
	for range gatewayErrorsToEject {
		l := mustLease(t, begin(service))
		head := &http2.RequestHead{Method: []byte("POST"), Scheme: "http", Authority: []byte("orders.shop.mesh"), Path: []byte("/")}
		if err := l.Stream().WriteRequest(head, nil, false); err != nil {
			t.Fatal(err)
		}
		l.Cut() // its body was malformed
		l.Done(Broken, 0)
		_ = l.Abort()
	}
	for _, h := range service.hosts {
		if h.outlier.failures > 0 {
			t.Errorf("the host counts %d failures", h.outlier.failures)
		}
	}
}

func TestAProgramThatTakesConnectionsAndDoesNotBeginHTTP2IsEjected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := New(Config{Identity: w.caller, Cluster: "east", Dial: pipes(func(_ string, c net.Conn) { _, _ = io.Copy(io.Discard, c) })})
		defer s.Close()
		s.Update([]*mesh.Route{{Destination: orders, Protocol: mesh.GRPC, Local: []mesh.Endpoint{{Instance: "frozen", Address: "frozen:1", Ready: true, Weight: 1}}}})
		service := s.Service(orders)
		a := new(Attempts)
		a.Begin(service, RetryPolicy{Hosts: 1, Sends: 1}, time.Now())
		a.Streams()
		if _, err := a.Next(t.Context(), nil); err == nil {
			t.Fatal("a lease of a program that says nothing")
		}
		for _, h := range service.hosts {
			if !h.outlier.ejected() {
				t.Error("it was not ejected")
			}
		}
	})
}

func TestASharedConnectionDrainsWhenItsRouteIsGoneOrWhoAnswersChanges(t *testing.T) {
	for name, change := range map[string]func(*mesh.Route){
		"gone":     func(r *mesh.Route) { r.Local = nil },
		"somebody": func(r *mesh.Route) { r.Identities = []string{"spiffe://mesh.example/cluster/west/ns/shop/sa/another"} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			server := newH2Server(t, w.orders, ok)
			set, service := w.set(t, &mesh.Route{Local: at(server.addr, ordersWest)})
			l := mustLease(t, begin(service))
			conn := l.Conn
			next := &mesh.Route{Destination: orders, Protocol: mesh.HTTP, Identities: []string{ordersWest}, Local: at(server.addr, ordersWest)}
			change(next)
			set.Update([]*mesh.Route{next})
			if again, err := begin(service).Next(t.Context(), nil); err == nil {
				t.Errorf("another request got %v", again)
			}
			if err := roundTrip(l); err != nil {
				t.Errorf("what ran did not end in order: %v", err)
			}
			<-conn.mux.Done()
		})
	}
}

func TestAProgramThatSpeaksHTTP2IsAskedOnOneConnection(t *testing.T) {
	server := newH2Server(t, nil, ok)
	s := Static(Config{}, server.addr, mesh.GRPC)
	defer s.Close()
	for range 10 {
		l := mustLease(t, begin(s))
		if l.ToSidecar() {
			t.Error("the program is taken for a sidecar")
		}
		if err := roundTrip(l); err != nil {
			t.Fatal(err)
		}
	}
	if n := server.accepted.Load(); n != 1 {
		t.Errorf("10 requests took %d connections", n)
	}
}

func TestAProgramThatDoesNotSpeakHTTP2IsSaidNotTo(t *testing.T) {
	s := Static(Config{}, serve(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
		_ = c.Close()
	}), mesh.GRPC)
	defer s.Close()
	a := new(Attempts)
	a.Begin(s, RetryPolicy{Hosts: 1, Sends: 1}, time.Now())
	a.Streams()
	_, err := a.Next(t.Context(), nil)
	contains(t, err, "HTTP/2")
}

func TestWhoGoesAwayWhileItConnectsForOthersLeavesThatToThem(t *testing.T) {
	w := newWorld(t)
	server := newH2Server(t, w.orders, ok)
	dialled := make(chan struct{}, 2)
	var first atomic.Bool
	r := &mesh.Route{Destination: orders, Protocol: mesh.HTTP, Identities: []string{ordersWest}, Local: at(server.addr, ordersWest)}
	s := New(Config{Identity: w.caller, Cluster: "east", Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialled <- struct{}{}
		if first.CompareAndSwap(false, true) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}})
	t.Cleanup(s.Close)
	s.Update([]*mesh.Route{r})
	service := s.Service(orders)
	ctx, leave := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	callers.Go(func() {
		if _, err := begin(service).Next(ctx, nil); err == nil {
			t.Error("who went away got a stream")
		}
	})
	<-dialled
	callers.Go(func() {
		l, err := begin(service).Next(t.Context(), nil)
		if err == nil {
			err = roundTrip(l)
		}
		if err != nil {
			t.Error(err)
		}
	})
	leave()
	callers.Wait()
}

func TestCallsOfAProgramThatSpeaksHTTP2ShareAPathThatIsUsedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, f *farSide) {
		f.offers = []string{"h2"}
		f.set.Update([]*mesh.Route{{Destination: orders, Protocol: mesh.GRPC, Identities: []string{ordersWest}, Gateways: at("gw:1", "")}})
		f.service = f.set.Service(orders)
		f.quiet()
		one, other := mustLease(t, begin(f.service)), mustLease(t, begin(f.service))
		if one.Conn != other.Conn {
			t.Error("two requests do not share the only path")
		}
		for _, l := range []*Lease{one, other} {
			if err := roundTrip(l); err != nil {
				t.Fatal(err)
			}
		}
		again := mustLease(t, begin(f.service))
		if !again.Reused {
			t.Error("a path that is free was not used again")
		}
		if err := roundTrip(again); err != nil {
			t.Fatal(err)
		}
	})
}
