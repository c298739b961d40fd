package upstream

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/http2"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

func TestAFewRequestsHaveAPathEachAndManyShareThem(t *testing.T) {
	inBubble(t, func(t *testing.T, f *farSide) {
		f.warm(t)
		f.quiet()
		one, two := mustLease(t, begin(f.service)), mustLease(t, begin(f.service))
		if one.Conn != two.Conn {
			t.Error("two requests do not share the only path")
		}
		for range fewPaths {
			f.service.hosts[one.host.key].pool.widen(connect.Instance{})
			f.service.shared.background.running.Wait()
		}
		running, conns := []*Lease{one, two}, []*Conn{one.Conn}
		for range fewPaths - 1 {
			l := mustLease(t, begin(f.service))
			if slices.Contains(conns, l.Conn) {
				t.Error("a request shares a path although another one is idle, and few are in use")
			}
			running, conns = append(running, l), append(conns, l.Conn)
		}
		l := mustLease(t, begin(f.service))
		if !slices.Contains(conns, l.Conn) || l.Conn == one.Conn {
			t.Error("a request has a path to itself although enough are in use, or not the path with fewest")
		}
		for _, l := range append(running, l) {
			if err := roundTrip(l); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestABurstOpensAPathForSeveralRequestsAndNotOneForEach(t *testing.T) {
	for name, before := range map[string]int{"cold": 0, "warm": 1} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *farSide) {
				for range before {
					f.warm(t)
				}
				f.together(t, 200)
				if n := f.count(); n < 200/maxPathStreams || n > 100 {
					t.Errorf("200 requests at once took %d paths", n)
				}
			})
		})
	}
}

func TestRequestsOverALongLinkHaveAPathEach(t *testing.T) {
	for _, opening := range []time.Duration{maxSharedOpening - time.Millisecond, maxSharedOpening + time.Millisecond} {
		t.Run(opening.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *farSide) {
				f.opening = opening
				f.quiet()
				f.warm(t)
				var conns []*Conn
				var leases []*Lease
				for range 3 {
					l := mustLease(t, begin(f.service))
					conns, leases = append(conns, l.Conn), append(leases, l)
				}
				if shared := conns[0] == conns[1] && conns[1] == conns[2]; shared != (opening < maxSharedOpening) {
					t.Errorf("three requests share a path: %v", shared)
				}
				for _, l := range leases {
					if err := roundTrip(l); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

func TestASequentialCallerNeverSharesAPath(t *testing.T) {
	inBubble(t, func(t *testing.T, f *farSide) {
		f.warm(t)
		p := f.quiet()
		for range 20 {
			f.warm(t)
		}
		if f.count() != 1 || p.len() != 1 {
			t.Errorf("it has opened %d paths and keeps %d", f.count(), p.len())
		}
	})
}

func TestAPathThatIsBusyWithOneTakesNoOthers(t *testing.T) {
	for name, test := range map[string]struct {
		serve func(*streams.Stream)
		use   func(*testing.T, *Lease)
	}{
		"a large upload": {func(s *streams.Stream) {
			_, _, _ = s.ReadHead(nil)
			_, _ = s.Read(make([]byte, 1)) // takes its time for the rest
			hold(s)
		}, func(t *testing.T, l *Lease) {
			if _, err := l.Write(make([]byte, maxPathCarried+1)); err != nil {
				t.Error(err)
			}
		}},
		"a large answer": {func(s *streams.Stream) {
			_, _, _ = s.ReadHead(nil)
			_ = s.WriteResponse(200, nil, false)
			_, _ = s.Write(make([]byte, maxPathCarried+1))
			hold(s)
		}, func(t *testing.T, l *Lease) {
			if _, _, err := l.Stream().ReadHead(nil); err != nil {
				t.Error(err)
			}
			for n := 0; n <= maxPathCarried; {
				k, err := l.Read(make([]byte, 4096))
				if n += k; err != nil {
					t.Error(err)
					return
				}
			}
		}},
		"a stream that lasts": {func(s *streams.Stream) {
			_, _, _ = s.ReadHead(nil)
			_ = s.WriteResponse(200, nil, false)
			hold(s)
		}, func(*testing.T, *Lease) { time.Sleep(minPathLasting + time.Millisecond) }},
		"silence": {func(s *streams.Stream) { hold(s) }, func(*testing.T, *Lease) { time.Sleep(minPathSilent + time.Millisecond) }},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *farSide) {
				f.serve = test.serve
				p := f.quiet()
				l := mustLease(t, begin(f.service))
				p.queue.took = time.Millisecond
				beside := mustLease(t, begin(f.service))
				if beside.Conn != l.Conn {
					t.Fatal("a request that has just begun has its path to itself")
				}
				head := &http2.RequestHead{Method: []byte("POST"), Scheme: "http", Authority: []byte("orders.shop.mesh"), Path: []byte("/")}
				if err := l.Stream().WriteRequest(head, nil, false); err != nil {
					t.Fatal(err)
				}
				test.use(t, l)
				other := mustLease(t, begin(f.service))
				if other.Conn == l.Conn {
					t.Error("another request shares its path")
				}
				l.Done(Answered, 0)
				l.Return()
				if again := mustLease(t, begin(f.service)); again.Conn != l.Conn && again.Conn != other.Conn {
					t.Error("when it is over its path is not used again")
				} else {
					again.Done(Abandoned, 0)
					_ = again.Close()
				}
				for _, l := range []*Lease{beside, other} {
					l.Done(Abandoned, 0)
					_ = l.Close()
				}
			})
		})
	}
}

func TestRequestsOnSharedPathsAreSpreadOverFarInstancesOneByOne(t *testing.T) {
	inBubble(t, func(t *testing.T, f *farSide) {
		n := 0
		f.names = func(head string) string { // the one that is not held, else in turn
			n++
			for _, name := range []string{"orders-1", "orders-2", "orders-3"} {
				if strings.Contains(head, connect.HeaderHeld) && !strings.Contains(head, name) {
					return name
				}
			}
			return []string{"orders-1", "orders-2", "orders-3"}[n%3]
		}
		f.warm(t)
		f.service.shared.background.running.Wait()
		count := map[string]int{}
		for range 30 {
			for who, n := range f.together(t, 40) {
				count[who] += n
			}
		}
		for _, who := range []string{"orders-1", "orders-2", "orders-3"} {
			if count[who] < 340 || count[who] > 460 {
				t.Errorf("of 1,200 requests: %v", count)
			}
		}
		if n := f.count(); n > 40 {
			t.Errorf("they took %d paths", n)
		}
	})
}

func TestAPathInUseToAnEjectedInstanceTakesNoMore(t *testing.T) {
	inBubble(t, func(t *testing.T, f *farSide) {
		names := []string{"orders-1", "orders-2"}
		f.names = func(head string) string {
			for _, name := range names {
				if !strings.Contains(head, name) {
					return name
				}
			}
			return names[0]
		}
		l := mustLease(t, begin(f.service))
		f.quiet()
		f.service.remotes.excludeIfFailing(l.remote(), f.service.shared.now(), unserved)
		for range 3 {
			other := mustLease(t, begin(f.service))
			if other.Instance == l.Instance {
				t.Error("a request shares the path to an ejected instance")
			}
			synctest.Wait()
			if head := f.last().head; !strings.Contains(head, connect.HeaderExclude) || !strings.Contains(head, "west/orders-1") {
				t.Errorf("the ejected instance is not excluded: %q", head)
			}
			defer func() { _ = roundTrip(other) }()
		}
		if f.count() != 2 {
			t.Errorf("%d paths were opened", f.count())
		}
		if err := roundTrip(l); err != nil {
			t.Error(err)
		}
	})
}

func TestASharedPathThatEndsInOrderLosesNoRequest(t *testing.T) {
	for name, end := range map[string]func(*farSide, *Lease){
		"GOAWAY of the far sidecar": func(f *farSide, _ *Lease) { f.last().conn.Drain() },
		"a gateway's goodbye": func(f *farSide, _ *Lease) {
			_, _ = f.last().below.Write(connect.AppendGoodbye(nil))
		},
		"a certificate's end": func(f *farSide, l *Lease) {
			l.host.pool.mu.Lock()
			defer l.host.pool.mu.Unlock()
			l.expires = f.service.shared.now()
		},
		"another who answers": func(f *farSide, l *Lease) {
			f.service.update(&mesh.Route{Destination: orders, Protocol: mesh.HTTP, Identities: []string{"spiffe://mesh.example/cluster/west/ns/shop/sa/another", ordersWest}, Gateways: at("gw:1", "")})
			l.host.pool.mu.Lock()
			defer l.host.pool.mu.Unlock()
			l.Peer = "spiffe://mesh.example/cluster/west/ns/shop/sa/past"
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *farSide) {
				f.warm(t)
				f.quiet()
				var running []*Lease
				for range maxPathStreams - 1 {
					running = append(running, mustLease(t, begin(f.service)))
				}
				if f.count() != 1 {
					t.Fatalf("%d paths", f.count())
				}
				var callers sync.WaitGroup
				for _, l := range running {
					callers.Go(func() {
						if err := roundTrip(l); err != nil {
							t.Errorf("what ran did not end in order: %v", err)
						}
					})
				}
				synctest.Wait() // all are at the far end
				path := running[0].Conn
				end(f, running[0])
				synctest.Wait()
				next := mustLease(t, begin(f.service))
				if next.Conn == path {
					t.Error("it takes another request")
				}
				callers.Wait()
				if err := roundTrip(next); err != nil {
					t.Error(err)
				}
				<-path.mux.Done()
			})
		})
	}
}

func TestTheDeathOfASharedPathIsOneFailureAndItsRequestsGoOnElsewhere(t *testing.T) {
	inBubble(t, func(t *testing.T, f *farSide) {
		names := "orders-1"
		f.names = func(string) string { return names }
		f.serve = func(s *streams.Stream) {
			_, _, _ = s.ReadHead(nil)
			_ = s.WriteResponse(200, nil, false)
			hold(s)
		}
		var tries []*Attempts
		var leases []*Lease
		for range maxPathStreams {
			a := begin(f.service)
			l := mustLease(t, a)
			f.quiet()
			head := &http2.RequestHead{Method: []byte("GET"), Scheme: "http", Authority: []byte("orders.shop.mesh"), Path: []byte("/")}
			if err := l.Stream().WriteRequest(head, nil, true); err != nil {
				t.Fatal(err)
			}
			if _, _, err := l.Stream().ReadHead(nil); err != nil {
				t.Fatal(err)
			}
			tries, leases = append(tries, a), append(leases, l)
		}
		if f.count() != 1 {
			t.Fatalf("%d paths", f.count())
		}
		f.last().conn.Abort(net.ErrClosed)
		names, f.serve = "orders-2", nil
		for i, l := range leases {
			if _, err := l.Read(make([]byte, 1)); !errors.As(err, new(*streams.ConnError)) {
				t.Errorf("the answer ended with %v", err)
			}
			if !l.Sent() || !tries[i].MayRetry(Lost, true) || tries[i].MayRetry(Lost, false) {
				t.Error("what may have been seen is not what may be repeated once, if idempotent")
			}
			l.Done(Broken, 0)
			_ = l.Abort()
			again := mustLease(t, tries[i])
			synctest.Wait()
			if head := f.last().head; !strings.Contains(head, "west/orders-1") {
				t.Errorf("the next attempt does not exclude who failed: %q", head)
			}
			if err := roundTrip(again); err != nil {
				t.Error(err)
			}
		}
		who := connect.Instance{Cluster: "west", Name: "orders-1"}
		if o := f.service.remotes.failing[who]; o == nil || o.failures != 1 {
			t.Errorf("the instance counts %+v, want one failure", o)
		}
	})
}

func TestAnAbortedRequestEndsItsPathUnlessOthersAreAnsweredThere(t *testing.T) {
	inBubble(t, func(t *testing.T, f *farSide) {
		abort := func(l *Lease) {
			l.Done(Abandoned, 0)
			_ = l.Abort()
		}
		f.warm(t)
		f.quiet()
		one, other := mustLease(t, begin(f.service)), mustLease(t, begin(f.service))
		if err := roundTrip(other); err != nil {
			t.Fatal(err)
		}
		abort(one)
		again := mustLease(t, begin(f.service))
		if again.Conn != one.Conn {
			t.Error("a path on which others are answered is given up with a request that was")
		}
		abort(again)
		if next := mustLease(t, begin(f.service)); next.Conn == one.Conn {
			t.Error("a path on which nothing was answered is used again")
		} else {
			abort(next)
		}
		<-one.mux.Done()
	})
}

func TestAFarSideThatDoesNotAgreeToHTTP2HasAPathForEachRequest(t *testing.T) {
	inBubble(t, func(t *testing.T, f *farSide) {
		f.offers = []string{"http/1.1"}
		var callers sync.WaitGroup
		for range 20 {
			callers.Go(func() {
				l, err := begin(f.service).Next(t.Context(), nil)
				if err != nil {
					t.Error(err)
					return
				}
				if l.Stream() != nil {
					t.Error("it is a stream")
				}
				time.Sleep(time.Minute)
				l.Done(Abandoned, 0)
				_ = l.Close()
			})
		}
		time.Sleep(time.Second)
		if f.count() < 20 {
			t.Errorf("20 requests have %d paths", f.count())
		}
		callers.Wait()
	})
}

func TestWhatIsNoRequestHasAPathToItself(t *testing.T) {
	inBubble(t, func(t *testing.T, f *farSide) {
		f.warm(t)
		f.quiet()
		running := mustLease(t, begin(f.service))
		for name, a := range map[string]*Attempts{"TCP": {}, "an upgrade": {}} {
			a.Begin(f.service, DefaultRetries(), time.Now())
			if name == "TCP" {
				a.Fresh()
				a.Streams()
			}
			l, err := a.Next(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if l.Conn == running.Conn || l.Stream() != nil {
				t.Errorf("%s has not", name)
			}
			l.Done(Abandoned, 0)
			_ = l.Close()
		}
		if err := roundTrip(running); err != nil {
			t.Error(err)
		}
	})
}

func TestARevokedPeersSharedPathIsCutWithAllThatRunsOnIt(t *testing.T) {
	inBubble(t, func(t *testing.T, f *farSide) {
		f.warm(t)
		f.quiet()
		one, other := mustLease(t, begin(f.service)), mustLease(t, begin(f.service))
		if !slices.Contains(f.service.shared.secured.all(), one.Conn) {
			t.Error("a path in use is not among what is judged")
		}
		_ = one.Conn.Abort() // as Judge does
		for _, l := range []*Lease{one, other} {
			if err := roundTrip(l); err == nil {
				t.Error("its request went on")
			}
		}
		if next := mustLease(t, begin(f.service)); next.Conn == one.Conn {
			t.Error("it is used again")
		} else if err := roundTrip(next); err != nil {
			t.Error(err)
		}
	})
}

func TestWhoWaitsForAPathThatDoesNotComeAboutOpensItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		var mu sync.Mutex
		s := New(Config{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			dials++
			return nil, errors.New("refused")
		}, Identity: newWorld(t).caller})
		defer s.Close()
		s.Update([]*mesh.Route{{Destination: orders, Protocol: mesh.HTTP, Gateways: at("gw:1", "")}})
		var callers sync.WaitGroup
		began := time.Now()
		for range 5 {
			callers.Go(func() {
				a := new(Attempts)
				a.Begin(s.Service(orders), RetryPolicy{Hosts: 1, Sends: 1}, time.Now())
				a.Streams()
				if _, err := a.Next(t.Context(), nil); err == nil {
					t.Error("a lease of nobody")
				}
			})
		}
		callers.Wait()
		if took := time.Since(began); took != 0 {
			t.Errorf("they waited %v", took)
		}
	})
}
