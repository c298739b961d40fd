package relay_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/epoll"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/internal/socket/sockettest"
)

func TestAPathOfWhichOneDirectionHasEndedEndsWhenItIsAborted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, a := net.Pipe()
		b, server := net.Pipe()
		defer server.Close() // the server never says anything
		over := make(chan error, 1)
		var p relay.Pair
		p.Start(nil, pipe{a}, halfClosing{pipe{b}}, 0, func(_ relay.Stats, err error) { over <- err })
		_ = client.Close()
		time.Sleep(time.Hour)
		synctest.Wait()
		_ = p.Abort()
		if err := <-over; !errors.Is(err, relay.ErrAborted) {
			t.Errorf("the path ended with %v, want %v", err, relay.ErrAborted)
		}
	})
}

// halfClosing is an end whose peer goes on when nothing more is written to it.
type halfClosing struct{ pipe }

func (halfClosing) CloseWrite() error { return nil }

func TestAPathThatIsAbortedBeforeItBeginsEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, a := net.Pipe()
		b, server := net.Pipe()
		over := make(chan error, 1)
		var p relay.Pair
		_ = p.Abort()
		p.Start(nil, pipe{a}, pipe{b}, 0, func(_ relay.Stats, err error) { over <- err })
		if err := <-over; !errors.Is(err, relay.ErrAborted) {
			t.Errorf("the path ended with %v, want %v", err, relay.ErrAborted)
		}
		_, _ = client.Close(), server.Close()
	})
}

func TestAPathEndsBetweenOneAndTwoLooksAfterItsIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, a := net.Pipe()
		b, server := net.Pipe()
		over := make(chan error, 1)
		var p relay.Pair
		p.Start(nil, pipe{a}, pipe{b}, time.Minute, func(_ relay.Stats, err error) { over <- err })
		go func() { _, _ = io.Copy(io.Discard, server) }()
		_, _ = client.Write([]byte("x"))
		began := time.Now()
		for {
			time.Sleep(time.Second)
			p.Look(time.Now())
			synctest.Wait()
			if len(over) > 0 {
				break
			}
		}
		if err, took := <-over, time.Since(began); !errors.Is(err, relay.ErrIdle) || took < time.Minute || took > time.Minute+2*time.Second {
			t.Errorf("the path ended with %v after %v", err, took)
		}
	})
}

// idlePath is a path between two sockets on which nothing has come for a while.
type idlePath struct {
	relay.Pair
	waiting        *epoll.Set
	client, server *net.TCPConn
	over           chan error
}

func newIdlePath(t *testing.T) *idlePath {
	t.Helper()
	set := new(epoll.Set)
	if err := set.Open(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { set.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	client, a := sockettest.Pair(t)
	b, server := sockettest.Pair(t)
	p := &idlePath{waiting: set, client: client, server: server, over: make(chan error, 1)}
	p.Start(set, relay.WithPrefix(a, []byte("prefix")), b, time.Hour, func(_ relay.Stats, err error) { p.over <- err })
	p.say(t, server, "prefix")
	p.idle(t)
	return p
}

// idle waits until both directions wait in the set.
func (p *idlePath) idle(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); p.waiting.Len() < 2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d directions wait for their socket", p.waiting.Len())
		}
	}
}

// say reads what was said.
func (p *idlePath) say(t *testing.T, to *net.TCPConn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

func TestIdleSocketsWaitWithOthersAndGoOn(t *testing.T) {
	for name, then := range map[string]func(*testing.T, *idlePath){
		"with a message now and then": func(t *testing.T, p *idlePath) {
			for range 2 {
				_, _ = p.client.Write([]byte("ping"))
				p.say(t, p.server, "ping")
				_, _ = p.server.Write([]byte("pong"))
				p.say(t, p.client, "pong")
				p.idle(t)
			}
			_ = p.Abort()
			if err := <-p.over; !errors.Is(err, relay.ErrAborted) {
				t.Error(err)
			}
		},
		"with much": func(t *testing.T, p *idlePath) {
			sent := make([]byte, 8<<20)
			go func() {
				_, _ = p.client.Write(sent)
				_ = p.client.CloseWrite()
			}()
			if n, err := io.Copy(io.Discard, p.server); n != int64(len(sent)) || err != nil {
				t.Errorf("%d bytes arrive, %v", n, err)
			}
			_ = p.server.Close()
			if err := <-p.over; err != nil {
				t.Error(err)
			}
		},
		"with a half-close, and then the other": func(t *testing.T, p *idlePath) {
			_ = p.client.CloseWrite()
			if _, err := p.server.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%v, want the end", err)
			}
			_, _ = p.server.Write([]byte("still"))
			_ = p.server.Close()
			p.say(t, p.client, "still")
			if err := <-p.over; err != nil {
				t.Error(err)
			}
		},
		"with a reset": func(t *testing.T, p *idlePath) {
			_ = p.client.SetLinger(0)
			_ = p.client.Close()
			if _, err := p.server.Read(make([]byte, 1)); err == nil || err == io.EOF {
				t.Errorf("%v, want a reset", err)
			}
			if err := <-p.over; err == nil {
				t.Error("no error")
			}
		},
		"to its end by the idle timeout": func(t *testing.T, p *idlePath) {
			p.Look(time.Now())
			p.Look(time.Now().Add(time.Hour))
			if err := <-p.over; !errors.Is(err, relay.ErrIdle) {
				t.Error(err)
			}
			for _, end := range []*net.TCPConn{p.client, p.server} {
				if _, err := end.Read(make([]byte, 1)); err == nil || err == io.EOF {
					t.Errorf("%v, want a reset", err)
				}
			}
		},
		"while others end it": func(t *testing.T, p *idlePath) {
			var others sync.WaitGroup
			for range 4 {
				others.Go(func() { _ = p.Abort() })
			}
			_, _ = p.client.Write([]byte("ping"))
			_ = p.server.Close()
			others.Wait()
			<-p.over
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newIdlePath(t)
			then(t, p)
			if n := p.waiting.Len(); n != 0 {
				t.Errorf("%d directions of a path that is over wait", n)
			}
		})
	}
}
