package epoll

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/socket/sockettest"
)

// running returns a set that runs until the test ends.
func running(t *testing.T) *Set {
	t.Helper()
	s := new(Set)
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { s.Run(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
	return s
}

// wait waits in s and returns a channel that gets a value for each call.
func wait(t *testing.T, s *Set, p *Place, conn *net.TCPConn) chan struct{} {
	t.Helper()
	called := make(chan struct{}, 2)
	if err := s.Wait(p, conn, time.Time{}, func() { called <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	return called
}

func TestWhoWaitsIsCalledOncePerWait(t *testing.T) {
	s := running(t)
	a, b := sockettest.Pair(t)
	var p Place
	for range 3 {
		called := wait(t, s, &p, a)
		if s.Len() != 1 {
			t.Fatalf("%d wait", s.Len())
		}
		_, _ = b.Write([]byte("x"))
		<-called
		_, _ = b.Write([]byte("y")) // of which nobody hears
		if _, err := io.ReadFull(a, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
		if len(called) != 0 || s.Len() != 0 {
			t.Fatalf("called %d times more, %d wait", len(called), s.Len())
		}
	}
	_, _ = b.Write([]byte("x"))
	<-wait(t, s, &p, a) // it is there already
}

func TestEndsAreSomethingToRead(t *testing.T) {
	s := running(t)
	for name, end := range map[string]func(*net.TCPConn){
		"a half-close": func(c *net.TCPConn) { _ = c.CloseWrite() },
		"a close":      func(c *net.TCPConn) { _ = c.Close() },
		"a reset":      func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() },
	} {
		a, b := sockettest.Pair(t)
		called := wait(t, s, new(Place), a)
		end(b)
		<-called
		if n, err := a.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("after %s: %d, %v", name, n, err)
		}
	}
}

func TestWhoClosesASocketWakesWhoWaitsForIt(t *testing.T) {
	s := running(t)
	var first Place
	a, _ := sockettest.Pair(t)
	called := wait(t, s, &first, a)
	_ = a.Close()
	s.Wake(&first)
	<-called
	s.Wake(&first) // nobody waits
	if err := s.Wait(&first, a, time.Time{}, func() { t.Error("called for a closed socket") }); err == nil {
		t.Error("it waits for a closed socket")
	}
	c, d := sockettest.Pair(t) // perhaps with the same descriptor
	again := wait(t, s, &first, c)
	_, _ = d.Write([]byte("x"))
	<-again
	if len(called) != 0 || s.Len() != 0 {
		t.Errorf("called %d times more, %d wait", len(called), s.Len())
	}
}

func TestTheEndOfASetWakesAll(t *testing.T) {
	s := new(Set)
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	a, _ := sockettest.Pair(t)
	b, _ := sockettest.Pair(t)
	calledA, calledB := wait(t, s, new(Place), a), wait(t, s, new(Place), b)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Run(ctx)
	<-calledA
	<-calledB
	if err := s.Wait(new(Place), a, time.Time{}, func() { t.Error("called") }); err != ErrOver {
		t.Errorf("%v, want %v", err, ErrOver)
	}
}

func TestWhoHasWaitedForLongEnoughIsCalled(t *testing.T) {
	s := running(t)
	a, _ := sockettest.Pair(t)
	b, _ := sockettest.Pair(t)
	called, until := make(chan time.Time, 1), time.Now().Add(time.Millisecond)
	if err := s.Wait(new(Place), a, until, func() { called <- time.Now() }); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(new(Place), b, time.Now().Add(time.Hour), func() {}); err != nil {
		t.Fatal(err)
	}
	if at := <-called; at.Before(until) || s.Len() != 1 {
		t.Errorf("called %v before its time, %d wait", until.Sub(at), s.Len())
	}
}

func TestManyWaitWithoutAGoroutineEach(t *testing.T) {
	s := running(t)
	type pair struct {
		a, b   *net.TCPConn
		p      Place
		called chan struct{}
	}
	pairs := make([]*pair, 2*batch+1)
	for i := range pairs {
		p := &pair{}
		p.a, p.b = sockettest.Pair(t)
		p.called = wait(t, s, &p.p, p.a)
		pairs[i] = p
	}
	var said sync.WaitGroup
	for i, p := range pairs {
		said.Go(func() {
			if i%2 == 0 {
				_, _ = p.b.Write([]byte("x"))
			} else {
				s.Wake(&p.p)
			}
		})
	}
	for _, p := range pairs {
		<-p.called
	}
	said.Wait()
	if s.Len() != 0 {
		t.Errorf("%d wait", s.Len())
	}
}
