package upstream

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestAnIdleConnectionIsUsedAgain(t *testing.T) {
	w := newWorld(t)
	_, s := w.set(t, &mesh.Route{Local: at(serve(t, echo(w.orders)), ordersWest)})
	h, conn := mustGet(t, s)
	exchange(t, conn, "one")
	h.put(conn)
	h.put(conn) // harmless
	_, again := mustGet(t, s)
	if again != conn || !again.Reused || again.Sent() || again.Answered() {
		t.Errorf("got %p reused=%v sent=%v answered=%v; want %p reused and unused since", again, again.Reused, again.Sent(), again.Answered(), conn)
	}
	exchange(t, again, "two")
	if _, third := mustGet(t, s); third.Reused {
		t.Error("one connection was given to two")
	}
}

func TestAfterABrokenConnectionARequestGetsAFreshOne(t *testing.T) {
	w := newWorld(t)
	_, s := w.set(t, &mesh.Route{Local: at(serve(t, echo(w.orders)), ordersWest)})
	h, conn := mustGet(t, s)
	h.put(conn)
	var try Attempts
	h, _ = s.pickHost(s.shared.now(), &try)
	first, err := h.get(t.Context(), &try)
	if err != nil || !first.Reused {
		t.Fatalf("%v, reused %v; want the idle connection", err, first.Reused)
	}
	h.put(conn) // another one is idle again
	h.done(h.service.shared.now(), &try, first, Broken, 0)
	if h, ok := s.pickHost(s.shared.now(), &try); !ok {
		t.Fatal("the host may not be asked again")
	} else if second, err := h.get(t.Context(), &try); err != nil || second.Reused {
		t.Fatalf("%v, reused %v; want a new connection", err, second.Reused)
	}
}

// pair is a plain endpoint that gives the test its end of each connection.
func pair(t *testing.T) (*Service, chan net.Conn) {
	t.Helper()
	ends := make(chan net.Conn, 16)
	s := Static(Config{}, serve(t, func(c net.Conn) { ends <- c }), mesh.HTTP)
	t.Cleanup(s.Close)
	return s, ends
}

// settled waits until the socket has something to say.
func settled(t *testing.T, conn *Conn) {
	t.Helper()
	// Read calls the function again each time that the socket becomes readable.
	if err := conn.peek.raw.Read(func(uintptr) bool { return !conn.alive() }); err != nil {
		t.Fatal(err)
	}
}

func TestAConnectionThatWasClosedWhileIdleIsNotGivenOut(t *testing.T) {
	for name, end := range map[string]func(net.Conn){
		"closed": func(c net.Conn) { _ = c.Close() },
		"reset": func(c net.Conn) {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		},
		"an answer that nobody asked for": func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 408 ") },
	} {
		t.Run(name, func(t *testing.T) {
			s, ends := pair(t)
			h, conn := mustGet(t, s)
			far := <-ends
			h.put(conn)
			end(far)
			settled(t, conn)
			later := s.shared.now().add(trustIdle)
			if got := h.pool.take(later, s.dialConfig.Load(), false, false); got != nil {
				t.Error("the connection was given out again")
			}
		})
	}
}

func TestAPooledConnectionThatBreaksIsBlamedOnItsHostOnlyWithinAnAnswer(t *testing.T) {
	s, ends := pair(t)
	pooled := func() (*Host, *Conn, net.Conn) {
		h, conn := mustGet(t, s)
		far := <-ends
		h.put(conn)
		h, conn = mustGet(t, s)
		return h, conn, far
	}
	lastError := func() string { return s.Status().Hosts[0].LastError }

	h, conn, far := pooled()
	_ = far.Close()
	_ = conn.Close()
	h.done(h.service.shared.now(), nil, conn, Broken, 0)
	if e := lastError(); e != "" {
		t.Errorf("blamed for a connection that it perhaps closed while it was idle: %s", e)
	}
	h, conn, far = pooled()
	exchangeWith(t, conn, far)
	_ = far.Close()
	_ = conn.Close()
	h.done(h.service.shared.now(), nil, conn, Broken, 0)
	if lastError() == "" {
		t.Error("not blamed for an answer that broke off")
	}
}

func exchangeWith(t *testing.T, near, far net.Conn) {
	t.Helper()
	b := make([]byte, 2)
	for _, c := range []struct{ from, to net.Conn }{{near, far}, {far, near}} {
		if _, err := io.WriteString(c.from, "hi"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c.to, b); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAbortIsSeenAsAnErrorAndCloseWriteAsAnEnd(t *testing.T) {
	s, ends := pair(t)
	_, conn := mustGet(t, s)
	far := <-ends
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after CloseWrite the other side reads %v, want EOF", err)
	}
	_, conn = mustGet(t, s)
	far = <-ends
	_ = conn.Abort()
	if _, err := far.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("after Abort the other side reads %v, want a reset", err)
	}
}

func TestHalfCloseWorksWithinTLS(t *testing.T) {
	w := newWorld(t)
	_, s := w.set(t, &mesh.Route{Local: at(serve(t, func(c net.Conn) {
		over := tls.Server(c, w.orders.ServerTLS(identitytest.AnyWorkload(), "http/1.1"))
		defer over.Close()
		if b, err := io.ReadAll(over); err == nil {
			_, _ = over.Write(b)
		}
	}), ordersWest)})
	_, conn := mustGet(t, s)
	_, _ = io.WriteString(conn, "all of it")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "all of it" {
		t.Errorf("read %q, %v after the half-close", got, err)
	}
}

func TestIdleConnectionsAreClosedWhenTheirHostVanishesAndBusyOnesFinish(t *testing.T) {
	w := newWorld(t)
	s, service := w.set(t, &mesh.Route{Local: at(serve(t, echo(w.orders)), ordersWest)})
	h, idle := mustGet(t, service)
	_, busy := mustGet(t, service)
	h.put(idle)
	s.Update(nil)
	if s.Service(orders) != nil {
		t.Error("the service of a vanished route is still found")
	}
	if _, err := idle.Write([]byte("x")); err == nil {
		t.Error("the idle connection is open")
	}
	exchange(t, busy, "still here")
	h.put(busy)
	if _, err := busy.Write([]byte("x")); err == nil {
		t.Error("the busy connection stays open after it was put back")
	}
	if _, ok := service.pickHost(service.shared.now(), new(Attempts)); ok {
		t.Error("a service without route picks somebody")
	}
}

func TestHostsThatStayKeepTheirConnectionsAndHistory(t *testing.T) {
	w := newWorld(t)
	addr := serve(t, echo(w.orders))
	s, service := w.set(t, &mesh.Route{Local: at(addr, ordersWest)})
	h, conn := mustGet(t, service)
	h.done(h.service.shared.now(), nil, conn, Answered, time.Second)
	h.put(conn)
	s.Update([]*mesh.Route{{
		Destination: orders, Protocol: mesh.HTTP,
		Local:      append(at(addr, ordersWest), at(deadAddr(t), ordersWest)...),
		Identities: []string{"spiffe://mesh.example/cluster/north/ns/shop/sa/orders", ordersWest},
	}})
	if s.Service(orders) != service {
		t.Fatal("another cluster")
	}
	if _, known := h.latency.at(service.shared.now()); !known {
		t.Error("the history is gone")
	}
	if got, err := h.get(t.Context(), nil); err != nil || got != conn {
		t.Errorf("got %p, %v; want the idle connection %p", got, err, conn)
	}
}

func TestConnectionsToWhomMayNoLongerAnswerAreClosed(t *testing.T) {
	w := newWorld(t)
	addr := serve(t, echo(w.orders))
	s, service := w.set(t, &mesh.Route{Local: at(addr, ordersWest)})
	h, idle := mustGet(t, service)
	_, busy := mustGet(t, service)
	h.put(idle)
	s.Update([]*mesh.Route{{
		Destination: orders, Protocol: mesh.HTTP, Local: at(addr, ordersWest),
		Identities: []string{"spiffe://mesh.example/cluster/north/ns/shop/sa/orders"},
	}})
	if _, err := idle.Write([]byte("x")); err == nil {
		t.Error("the idle connection is open")
	}
	h.put(busy)
	if _, err := busy.Write([]byte("x")); err == nil {
		t.Error("the busy connection stays open after it was put back")
	}
}

func TestAnotherInstanceAtTheSameAddressIsAnotherHost(t *testing.T) {
	s := serviceOf(endpoints("ep", 1, 1), nil)
	old := host(t, s, "ep-0:1")
	eps := endpoints("ep", 1, 1)
	eps[0].Instance = "successor"
	s.update(&mesh.Route{Destination: orders, Local: eps})
	if host(t, s, "ep-0:1") == old {
		t.Error("the successor inherits connections and history")
	}
}

func TestIdleConnectionsEndAfterTheIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := make(chan net.Conn, 1)
		s := Static(Config{Dial: pipes(func(_ string, c net.Conn) { ends <- c })}, "program:1", mesh.HTTP)
		defer s.Close()
		h, _ := s.pickHost(s.shared.now(), new(Attempts))
		conn, err := h.get(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		far := <-ends
		h.put(conn)
		start := time.Now()
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("the other side reads %v, want EOF", err)
		}
		if got := time.Since(start); got != defaultIdleTimeout {
			t.Errorf("closed after %v, want %v", got, defaultIdleTimeout)
		}
		if h.pool.len() != 0 {
			t.Error("still in the pool")
		}
	})
}

func TestAConnectionIsNotUsedBeyondItsPeersCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		live := echo(w.orders)
		s := New(Config{Identity: w.caller, IdleTimeout: 10 * 365 * 24 * time.Hour, Dial: pipes(func(_ string, c net.Conn) { live(c) })})
		defer s.Close()
		s.Update([]*mesh.Route{{Destination: orders, Identities: []string{ordersWest}, Local: at("ep:1", ordersWest)}})
		h, conn, err := get(t, s.Service(orders))
		if err != nil {
			t.Fatal(err)
		}
		h.put(conn)
		now := h.service.shared.now()
		if h.pool.expired(conn, now.add(364*24*time.Hour)) {
			t.Error("too old a day before its certificate expires")
		}
		if !h.pool.expired(conn, now.add(366*24*time.Hour)) {
			t.Error("good a day after its certificate has expired")
		}
	})
}

func TestAConnectionIsNotUsedUntilTheLastMomentOfEitherCertificate(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	brief := func(cluster mesh.ClusterName, account string) *identity.Source {
		c, err := m.Cluster(cluster).Issue(identity.Request{ID: identity.ID{Namespace: "shop", ServiceAccount: account}, TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		src, err := c.Source()
		if err != nil {
			t.Fatal(err)
		}
		return src
	}
	for name, who := range map[string]struct{ caller, orders *identity.Source }{
		"ours":       {brief("east", "caller"), m.Workload("west", "shop", "orders")},
		"the peer's": {m.Workload("east", "shop", "caller"), brief("west", "orders")},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(Config{Identity: who.caller, IdleTimeout: 24 * time.Hour})
			defer s.Close()
			s.Update([]*mesh.Route{{Destination: orders, Protocol: mesh.HTTP, Identities: []string{ordersWest}, Local: at(serve(t, echo(who.orders)), ordersWest)}})
			h, conn := mustGet(t, s.Service(orders))
			h.put(conn)
			ends := s.shared.now().add(time.Hour)
			if h.pool.expired(conn, ends.add(-2*expiryMargin)) {
				t.Error("too old long before the certificate expires")
			}
			// Whoever checks ends the connection at that moment, and a request with it.
			if !h.pool.expired(conn, ends.add(-expiryMargin/2)) {
				t.Error("used when a request could meet the end of the certificate")
			}
		})
	}
}

func TestThePoolIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := Static(Config{Dial: pipes(func(_ string, c net.Conn) { _, _ = io.Copy(io.Discard, c) })}, "program:1", mesh.HTTP)
		defer s.Close()
		h, _ := s.pickHost(s.shared.now(), new(Attempts))
		var conns []*Conn
		for range maxIdlePerHost + 10 {
			conn, err := h.get(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
		}
		for _, conn := range conns {
			h.put(conn)
		}
		if got := h.pool.len(); got != maxIdlePerHost {
			t.Errorf("%d idle connections, want %d", got, maxIdlePerHost)
		}
	})
}

func TestARequestOnAPooledConnectionAllocatesNothing(t *testing.T) {
	t.Run("to a local endpoint", func(t *testing.T) {
		w := newWorld(t)
		r := &mesh.Route{Local: at(serve(t, echo(w.orders)), ordersWest), Gateways: endpoints("gw", 2, 2)}
		s, service := w.set(t, r)
		h, conn := mustGet(t, service)
		h.done(h.service.shared.now(), nil, conn, Answered, time.Millisecond)
		h.put(conn)
		allocatesNothing(t, s)
	})
	t.Run("to far instances", func(t *testing.T) {
		_, service := newFleet(t, "orders-1", "orders-2", "orders-3")
		h := only(t, service)
		answered(t, service, 1)
		h.pool.meet(t.Context())
		set := &Set{shared: service.shared}
		set.services.Store(&map[mesh.Destination]*Service{orders: service})
		allocatesNothing(t, set)
	})
}

// allocatesNothing makes requests on pooled connections.
func allocatesNothing(t *testing.T, s *Set) {
	t.Helper()
	var try Attempts
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		service := s.Service(orders)
		service.budget.request(service.shared.now())
		try = Attempts{}
		h, ok := service.pickHost(service.shared.now(), &try)
		if !ok {
			t.Fatal("nobody to pick")
		}
		conn, err := h.get(ctx, &try)
		if err != nil {
			t.Fatal(err)
		}
		if !conn.Reused {
			t.Fatal("not reused")
		}
		h.done(h.service.shared.now(), &try, conn, Answered, time.Millisecond)
		h.put(conn)
		service.spendRetry()
	}); n != 0 {
		t.Errorf("a request allocates %v times, want 0", n)
	}
}

func TestPicksAmongManyHostsAllocateNothing(t *testing.T) {
	s, _ := grown(endpoints("ep", 60, 100), endpoints("gw", 2, 2))
	s.update(route(endpoints("ep", 65, 100), endpoints("gw", 2, 2))) // some warm up
	host(t, s, "ep-0:1").ejectIfFailing(s.shared.now(), unconnected, "refused")
	var try Attempts
	if n := testing.AllocsPerRun(1000, func() {
		try = Attempts{}
		for range 4 {
			h, ok := s.pickHost(s.shared.now(), &try)
			if !ok {
				t.Fatal("nobody to pick")
			}
			h.done(h.service.shared.now(), &try, nil, Broken, 0)
		}
	}); n != 0 {
		t.Errorf("four picks allocate %v times, want 0", n)
	}
}
