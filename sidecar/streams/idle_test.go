package streams

import (
	"crypto/tls"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

func TestAnIdleConnectionHoldsNoBufferAndNoStreams(t *testing.T) {
	inBubble(t, 0, func(client, server *Conn, _, _ net.Conn) {
		var callers sync.WaitGroup
		for range 50 {
			callers.Go(func() {
				if err := exchange(client, make([]byte, 32<<10)); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		time.Sleep(5 * tick)
		synctest.Wait()
		for name, c := range map[string]*Conn{"client": client, "server": server} {
			c.mu.Lock()
			if c.reader.pooled != nil || c.out.batch != nil || len(c.streams.free) > 0 || c.upkeep.ticking {
				t.Errorf("the %s holds buffer %v, queue %v, %d streams, ticks %v", name, c.reader.pooled != nil, c.out.batch != nil, len(c.streams.free), c.upkeep.ticking)
			}
			c.mu.Unlock()
		}
	})
}

func TestAConnectionThatWasIdleHoldsNoBufferAfterOneMoreRead(t *testing.T) {
	inBubble(t, 0, func(client, server *Conn, _, _ net.Conn) {
		time.Sleep(5 * tick)
		for range 2 {
			s := open(t, client, post, false)
			time.Sleep(5 * tick)
			s.Release()
			time.Sleep(5 * tick)
		}
		synctest.Wait()
		for name, c := range map[string]*Conn{"client": client, "server": server} {
			c.mu.Lock()
			if c.reader.pooled != nil || c.upkeep.ticking {
				t.Errorf("the %s holds buffer %v, ticks %v", name, c.reader.pooled != nil, c.upkeep.ticking)
			}
			c.mu.Unlock()
		}
	})
}

func TestAnIdleConnectionDoesNotKeepTheRoomOfALargeHead(t *testing.T) {
	inBubble(t, 0, func(client, server *Conn, _, _ net.Conn) {
		s, err := client.Open()
		if err != nil {
			t.Fatal(err)
		}
		large := []Field{{Name: []byte("x"), Value: make([]byte, 40<<10)}}
		for i := range large[0].Value {
			large[0].Value[i] = 'x'
		}
		if err := s.WriteRequest(get, large, true); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s.Release()
		time.Sleep(5 * tick)
		synctest.Wait()
		server.mu.Lock()
		defer server.mu.Unlock()
		if n := cap(server.reader.text); n > smallChunk {
			t.Errorf("%d bytes are held", n)
		}
	})
}

func TestAnIdleStreamHoldsNoBuffer(t *testing.T) {
	inBubble(t, 0, func(client, server *Conn, _, _ net.Conn) {
		s := open(t, client, post, false)
		defer s.Release()
		_, _ = s.Write(make([]byte, 32<<10))
		if _, _, err := s.ReadHead(nil); err != nil {
			t.Fatal(err)
		}
		for got := 0; got < 32<<10; {
			n, err := s.Read(make([]byte, 4<<10))
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
		time.Sleep(5 * tick)
		synctest.Wait()
		for name, c := range map[string]*Conn{"client": client, "server": server} {
			c.mu.Lock()
			if x := c.streams.using[0]; c.reader.pooled != nil || c.out.batch != nil || x.in.first != nil || x.now != nil {
				t.Errorf("the %s holds something", name)
			}
			c.mu.Unlock()
		}
	})
}

// TestIdleStreamsAreSmall measures what an idle tunnel costs both ends together.
func TestIdleStreamsAreSmall(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has memory of its own")
	}
	m := identitytest.New(t, "mesh.example")
	server, caller := m.Workload("east", "shop", "orders"), m.Workload("east", "shop", "caller")
	var wait sync.WaitGroup
	release := make(chan struct{})
	const conns, each = 10, 100
	all := make([]*Conn, 0, conns)
	before := memory()
	for range conns {
		near, far := sockets(t)
		wait.Go(func() {
			_ = Server(tls.Server(far, server.ServerTLS(identitytest.AnyWorkload(), "h2")), Config{}).Serve(func(s *Stream) {
				_, _, _ = s.ReadHead(nil)
				_ = s.WriteResponse(200, nil, false)
				<-release
			})
		})
		client := Client(identity.Client(near, caller.ClientTLS("orders.shop.mesh", identitytest.AnyWorkload(), "h2")), Config{})
		all = append(all, client)
		for range each {
			s := open(t, client, post, false)
			if _, _, err := s.ReadHead(nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	per := (memory() - before) / (conns * each)
	t.Logf("an idle stream costs both ends %d bytes", per)
	if per > 10<<10 {
		t.Errorf("an idle stream costs both ends %d bytes", per)
	}
	close(release)
	for _, c := range all {
		_ = c.Close()
	}
	wait.Wait()
}

// memory is what is in use, stacks included.
func memory() int {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int(s.HeapInuse + s.StackInuse)
}
