package forward_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/forward"
	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// numbered is a pipe whose addresses are its own.
type numbered struct {
	pipe
	local, remote net.Addr
}

func (n numbered) LocalAddr() net.Addr  { return n.local }
func (n numbered) RemoteAddr() net.Addr { return n.remote }

// TestWhateverHappensNothingIsHeldAfterwards runs many paths whose clients,
// gateways and endpoints do anything at any time, and then looks whether every
// count is back at 0. What a client that behaves gets is what it sent.
func TestWhateverHappensNothingIsHeldAfterwards(t *testing.T) {
	const clients = 600
	first := hello(t)
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(1, 2))
		var mu sync.Mutex // guards rnd
		random := func(n int) int {
			mu.Lock()
			defer mu.Unlock()
			return rnd.IntN(n)
		}
		pause := func(most time.Duration) { time.Sleep(time.Duration(random(int(most)))) }

		var stubs sync.WaitGroup
		var ports atomic.Int64
		stub := func(serve func(numbered)) relay.Conn {
			a, b := newPipe()
			n := int(ports.Add(1))
			one, two := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: n}, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: n}
			stubs.Go(func() {
				defer b.Close()
				serve(numbered{b, two, one})
			})
			return numbered{a, one, two}
		}
		echoes := func(c numbered) {
			// Half of the time a broken one.
			b := make([]byte, 4096)
			for left := random(200); left != 0; left-- {
				n, err := c.Read(b)
				if err != nil {
					return
				}
				if _, err := c.Write(b[:n]); err != nil {
					return
				}
			}
		}
		gateway := func(c numbered) {
			pause(time.Second)
			head := make([]byte, 0, 64<<10)
			for !bytes.Contains(head, []byte("\r\n\r\n")) {
				n, err := c.Read(head[len(head):cap(head)])
				if err != nil {
					return
				}
				head = head[:len(head)+n]
			}
			_, payload, _ := bytes.Cut(head, []byte("\r\n\r\n"))
			switch random(6) {
			case 0: // frozen
				_, _ = io.Copy(io.Discard, c)
				return
			case 1: // dies
				return
			case 2:
				_, _ = c.Write(forwardRefusal)
				return
			}
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
				return
			}
			if _, err := c.Write(payload); err != nil {
				return
			}
			echoes(c)
		}
		l := newPipes()
		outbound := func(*forward.Request) ([]forward.Candidate, *connect.Refusal) {
			all := []forward.Candidate{at("orders-1", "10.0.0.9:1"), to(w1), to(w2), to(n1), at("orders-2", "10.0.0.9:2")}
			mu.Lock()
			defer mu.Unlock()
			rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			return all[:1+rnd.IntN(len(all))], nil
		}
		f, err := forward.New(forward.Config{Self: east1, Listener: l, Outbound: outbound, Inbound: nobody, Authorizer: byDefault("east"), Identity: anIdentity(t), Idle: time.Minute,
			Open: func(ctx context.Context, _ mesh.GatewayID) (relay.Conn, error) {
				if pause(100 * time.Millisecond); random(5) == 0 || ctx.Err() != nil {
					return nil, errors.New("tunnel down")
				}
				return stub(gateway), nil
			},
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				if pause(100 * time.Millisecond); random(3) == 0 || ctx.Err() != nil {
					return nil, errors.New("no route")
				}
				return stub(echoes), nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()

		var served atomic.Int64
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				pause(20 * time.Second)
				c := l.dial()
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(testLimit))
				sni := random(2) == 0
				if !sni {
					if _, err := io.WriteString(c, connectHead()); err != nil {
						return
					}
				}
				gone := random(4) == 0
				sent := append(bytes.Clone(first), make([]byte, random(20<<10))...)
				writes := make(chan struct{})
				go func() {
					defer close(writes)
					for b := sent; len(b) > 0; {
						n := min(len(b), 1+random(2000))
						if _, err := c.Write(b[:n]); err != nil {
							return
						}
						b = b[n:]
						pause(50 * time.Millisecond)
						if gone && random(4) == 0 {
							_ = c.Close()
							return
						}
					}
				}()
				got, _ := io.ReadAll(io.LimitReader(c, int64(len(sent))))
				refused := sni && len(got) > 0 && got[0] == 21 // a TLS alert
				if !sni {
					var head []byte
					head, got, _ = bytes.Cut(got, []byte("\r\n\r\n"))
					refused = !bytes.HasPrefix(head, []byte("HTTP/1.1 200 "))
				}
				if !refused && !bytes.HasPrefix(sent, got) {
					t.Errorf("a client got %.40q, which it did not send", got)
				}
				if !refused && len(got) > 0 {
					served.Add(1)
				}
				_ = c.Close()
				<-writes
			})
		}
		all.Wait()
		time.Sleep(2 * time.Minute) // what is left over is idle by then
		synctest.Wait()
		if a, b, c, d, e := f.Held(); a|b|c|d|e != 0 {
			t.Errorf("still held: %d paths of %d sources, load on %d, %d connections to endpoints, %d running", a, b, c, d, e)
		}
		if n := served.Load(); n < clients/4 {
			t.Errorf("only %d of %d clients were served: this tests nothing", n, clients)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		stubs.Wait()
	})
}

var forwardRefusal = []byte("HTTP/1.1 503 Busy\r\nProxy-Status: isthmus-west-1; error=destination_unavailable; details=\"busy\"\r\n\r\n")
