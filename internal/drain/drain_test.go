package drain

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/limit"
)

// probe is something open, and what was done to it.
type probe struct {
	entry    *Entry
	deadline time.Time

	mu   sync.Mutex
	ends []error
}

// causes returns why it was ended, once for each time.
func (p *probe) causes() []error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ends
}

func (p *probe) end(cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ends = append(p.ends, cause)
}

func add(t *testing.T, s *Set) *probe {
	t.Helper()
	p := &probe{}
	p.entry = s.Add(p.end, func(d time.Time) error { p.deadline = d; return nil })
	if p.entry == nil {
		t.Fatal("Add refused")
	}
	return p
}

func TestADrainShortensTheWaitOfIdleEntriesOnlyAndEndsWithTheLast(t *testing.T) {
	s := NewSet()
	idle, busy := add(t, s), add(t, s)
	far := time.Now().Add(time.Hour)
	idle.entry.Waiting(far)
	busy.entry.Waiting(far)
	busy.entry.Busy()
	grace := time.Now().Add(time.Second)
	empty := s.Drain(grace)
	if !idle.deadline.Equal(grace) || !busy.deadline.Equal(far) {
		t.Errorf("deadlines %v and %v, want %v and %v", idle.deadline, busy.deadline, grace, far)
	}
	if s.Add(func(error) {}, nil) != nil {
		t.Error("something new was let in")
	}
	busy.entry.Waiting(far)
	if !busy.deadline.Equal(grace) {
		t.Errorf("who becomes idle later may wait until %v, want %v", busy.deadline, grace)
	}
	idle.entry.Remove()
	idle.entry.Remove()
	select {
	case <-empty:
		t.Error("empty with one left")
	default:
	}
	busy.entry.Remove()
	<-empty
	<-s.Drain(grace) // again, and at once
}

func TestAnAbortEndsWhatIsOpenAndSaysWhy(t *testing.T) {
	s := NewSet()
	a := add(t, s)
	gone := add(t, s)
	gone.entry.Remove()
	empty := s.Drain(time.Now())
	s.Abort()
	if len(a.causes()) != 1 || !errors.Is(a.causes()[0], ErrAborted) || len(gone.causes()) != 0 {
		t.Errorf("causes %v and %v", a.causes(), gone.causes())
	}
	a.entry.Remove()
	<-empty
}

func TestOfIdleEntriesThoseThatWaitedLongestAreShed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSet()
		busy := add(t, s)
		var idle []*probe
		for range 5 {
			p := add(t, s)
			p.entry.Waiting(time.Now().Add(time.Hour))
			idle = append(idle, p)
			time.Sleep(time.Second)
		}
		if n := s.Shed(); n != 3 {
			t.Errorf("Shed() = %d, want 3", n)
		}
		for i, p := range idle {
			if got := len(p.causes()) == 1; got != (i < 3) {
				t.Errorf("entry %d was ended: %v", i, got)
			}
		}
		if len(busy.causes()) != 0 {
			t.Error("a busy entry was ended")
		}
	})
}

func TestAnEntryEndsWhenItsPeerIsTrustedNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSet()
		var trusted atomic.Bool
		trusted.Store(true)
		no := errors.New("its root was taken out")
		judge := func(tls.ConnectionState) error {
			if trusted.Load() {
				return nil
			}
			return no
		}
		var mu sync.Mutex
		changed := make(chan struct{})
		past := func() <-chan struct{} { mu.Lock(); defer mu.Unlock(); return changed }
		change := func() { mu.Lock(); defer mu.Unlock(); close(changed); changed = make(chan struct{}) }
		a, anonymous := add(t, s), add(t, s)
		a.entry.Proved(tls.ConnectionState{}, judge)
		defer watch(t, s, past)()
		synctest.Wait()
		change()
		synctest.Wait()
		if len(a.causes()) != 0 {
			t.Fatalf("ended by a change that keeps it trusted: %v", a.causes())
		}
		trusted.Store(false)
		change()
		synctest.Wait()
		if len(a.causes()) != 1 || a.causes()[0] != no || len(anonymous.causes()) != 0 {
			t.Errorf("causes %v, and %v of one that proved nothing", a.causes(), anonymous.causes())
		}
	})
}

func TestWhoWasShakingHandsWhenTrustChangedIsJudgedAMomentLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSet()
		changed := make(chan struct{})
		past := changed
		defer watch(t, s, func() <-chan struct{} { return past })()
		synctest.Wait()
		past = make(chan struct{})
		close(changed)
		synctest.Wait()
		late := add(t, s) // what it proved was verified before
		no := errors.New("it is revoked")
		late.entry.Proved(tls.ConnectionState{}, func(tls.ConnectionState) error { return no })
		time.Sleep(2 * expiryInterval)
		synctest.Wait()
		if len(late.causes()) != 1 || late.causes()[0] != no {
			t.Errorf("causes %v", late.causes())
		}
	})
}

func TestAnEntryEndsWithTheFirstCertificateOfItsChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSet()
		start := time.Now()
		expired := errors.New("expired")
		a := add(t, s)
		a.entry.Proved(tls.ConnectionState{PeerCertificates: []*x509.Certificate{
			{NotAfter: start.Add(time.Hour)}, {NotAfter: start.Add(time.Minute)},
		}}, func(tls.ConnectionState) error { return expired })
		defer watch(t, s, func() <-chan struct{} { return nil })()
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if len(a.causes()) != 0 {
			t.Fatalf("ended %v too early", time.Since(start))
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if len(a.causes()) == 0 || a.causes()[0] != expired {
			t.Errorf("causes %v", a.causes())
		}
	})
}

func watch(t *testing.T, s *Set, past func() <-chan struct{}) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { s.Watch(ctx, past) })
	return func() { cancel(); done.Wait() }
}

// listener gives what it is fed.
type listener struct {
	next   chan any // net.Conn or error
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	case v := <-l.next:
		if err, ok := v.(error); ok {
			return nil, err
		}
		return v.(net.Conn), nil
	}
}
func (l *listener) Close() error                { close(l.closed); return nil }
func (l *listener) Addr() net.Addr              { return &net.TCPAddr{} }
func (l *listener) SetDeadline(time.Time) error { return nil }

func TestOutOfDescriptorsIdleConnectionsGoFirstThenCallersAreRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSet()
		l := &listener{next: make(chan any), closed: make(chan struct{})}
		short, failed := 0, 0
		var loop sync.WaitGroup
		served := make(chan net.Conn, 1)
		loop.Go(func() {
			s.Accept(t.Context(), l, AcceptConfig{Short: func() { short++ }, Failed: func() { failed++ }}, func(c net.Conn, _ *limit.Stranger) {
				served <- c
				<-l.closed
			})
		})
		idle := add(t, s)
		idle.entry.Waiting(time.Now().Add(time.Hour))
		l.next <- error(syscall.EMFILE)
		time.Sleep(time.Second)
		synctest.Wait()
		if len(idle.causes()) != 1 || short != 1 || failed != 1 {
			t.Fatalf("idle ended %d times, Short %d, Failed %d; want once each", len(idle.causes()), short, failed)
		}
		idle.entry.Busy()
		l.next <- error(syscall.EMFILE) // and nothing is left to shed
		client, waits := net.Pipe()
		l.next <- waits
		if _, err := client.Read(make([]byte, 1)); err == nil {
			t.Error("who was refused read something")
		}
		client, waits = net.Pipe()
		l.next <- waits // there is room again
		if c := <-served; c != waits {
			t.Error("another connection was served")
		}
		_ = l.Close()
		loop.Wait()
		s.Wait()
		if _, err := client.Write([]byte("x")); err == nil {
			t.Error("the connection is open after its goroutine has ended")
		}
	})
}

func TestBeyondTheBoundCallersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSet()
		l := &listener{next: make(chan any), closed: make(chan struct{})}
		release := make(chan struct{})
		var running atomic.Int32
		var loop sync.WaitGroup
		loop.Go(func() {
			s.Accept(t.Context(), l, AcceptConfig{Max: 2}, func(net.Conn, *limit.Stranger) { running.Add(1); <-release })
		})
		for range 2 {
			_, c := net.Pipe()
			l.next <- c
		}
		_, c := net.Pipe()
		var third sync.WaitGroup
		third.Go(func() { l.next <- c })
		synctest.Wait()
		if n := running.Load(); n != 2 {
			t.Errorf("%d are served, want 2", n)
		}
		release <- struct{}{}
		third.Wait()
		synctest.Wait()
		if n := running.Load(); n != 3 {
			t.Errorf("%d were served after one has ended, want 3", n)
		}
		close(release)
		_ = l.Close()
		loop.Wait()
		s.Wait()
	})
}

func TestAtTheBoundStrangersMakeRoomForTheNextCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSet()
		l := &listener{next: make(chan any), closed: make(chan struct{})}
		limits, err := limit.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan net.Conn, 10)
		var loop sync.WaitGroup
		loop.Go(func() {
			s.Accept(t.Context(), l, AcceptConfig{Max: 4, Strangers: limits.Port("test", 4)}, func(c net.Conn, who *limit.Stranger) {
				b := make([]byte, 1)
				if _, err := c.Read(b); err != nil {
					return
				}
				who.Known()
				served <- c
				_, _ = c.Read(b)
			})
		})
		var clients []net.Conn
		call := func(says string) {
			client, c := net.Pipe()
			clients = append(clients, client)
			l.next <- c
			if says != "" {
				_, _ = client.Write([]byte(says))
			}
			synctest.Wait()
		}
		call("a")
		for range 20 {
			call("")
		}
		call("b")
		if len(served) != 2 {
			t.Errorf("%d callers are served among silent ones, want 2", len(served))
		}
		if _, err := clients[0].Write([]byte("c")); err != nil {
			t.Errorf("one that is known was cut: %v", err)
		}
		for _, c := range clients {
			_ = c.Close()
		}
		_ = l.Close()
		loop.Wait()
		s.Wait()
	})
}
