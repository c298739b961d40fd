package forward_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/forward"
	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// pipe is an end of a net.Pipe that can be relayed: in it virtual time passes
// as in a socket. It has no half-close.
type pipe struct{ net.Conn }

func (p pipe) CloseWrite() error { return nil }

func newPipe() (a, b pipe) {
	x, y := net.Pipe()
	return pipe{x}, pipe{y}
}

// pipes is a listener of pipes.
type pipes struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newPipes() *pipes {
	return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipes) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (l *pipes) dial() pipe {
	a, b := newPipe()
	l.conns <- b
	return a
}

// farGateway answers on the stub's end of a stream, with what the client sent.
type farGateway func(stream pipe)

// frozen reads everything and says nothing.
func frozen(s pipe) { _, _ = io.Copy(io.Discard, s) }

// answers opens the path and returns the payload that it got to got.
func answers(got chan<- []byte) farGateway {
	return func(s pipe) {
		b := make([]byte, 64<<10)
		n, _ := s.Read(b) // the head, and the payload that was there with it
		_, payload, _ := bytes.Cut(b[:n], []byte("\r\n\r\n"))
		payload = bytes.Clone(payload)
		_, _ = io.WriteString(s, "HTTP/1.1 200 OK\r\nIsthmus-Cluster: north\r\nIsthmus-Instance: orders-9\r\n\r\n")
		for !bytes.HasSuffix(payload, []byte("the end")) {
			n, err := s.Read(b)
			if err != nil {
				break
			}
			payload = append(payload, b[:n]...)
		}
		got <- payload
		_, _ = io.WriteString(s, "served")
	}
}

// gateways is what Open leads to.
type gateways struct {
	forward *forward.Forward // whose Open this is
	far     map[mesh.GatewayID]farGateway
	wg      sync.WaitGroup
	mu      sync.Mutex
	open    []mesh.GatewayID // in the order of Open
	at      []time.Time
}

func (g *gateways) Open(ctx context.Context, id mesh.GatewayID) (relay.Conn, error) {
	g.mu.Lock()
	g.open = append(g.open, id)
	g.at = append(g.at, time.Now())
	g.mu.Unlock()
	far := g.far[id]
	if far == nil {
		return nil, errors.New("tunnel down")
	}
	a, b := newPipe()
	g.wg.Go(func() {
		defer b.Close()
		far(b)
	})
	return a, nil
}

func gw(cluster, name string) mesh.GatewayID {
	return mesh.GatewayID{Cluster: mesh.ClusterName(cluster), Name: mesh.GatewayName(name)}
}

var (
	w1 = gw("west", "west-1")
	w2 = gw("west", "west-2")
	n1 = gw("north", "north-1")
)

// inTime runs a Forward in virtual time whose requests go to the candidates.
func inTime(t *testing.T, far map[mesh.GatewayID]farGateway, candidates []forward.Candidate, test func(t *testing.T, l *pipes, g *gateways)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := &gateways{far: far}
		l := newPipes()
		f, err := forward.New(forward.Config{Self: east1, Listener: l, Outbound: always(candidates...), Inbound: nobody, Authorizer: byDefault("east"), Open: g.Open,
			Identity: anIdentity(t)})
		if err != nil {
			t.Fatal(err)
		}
		g.forward = f
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		test(t, l, g)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		g.wg.Wait() // every attempt's stream was closed
	})
}

func TestAGatewayThatDoesNotAnswerIsHedged(t *testing.T) {
	for name, c := range map[string]struct {
		rtt, want time.Duration
	}{
		"a near one after 200 ms":         {time.Millisecond, 200 * time.Millisecond},
		"a far one after three times RTT": {150 * time.Millisecond, 450 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan []byte, 1)
			far := map[mesh.GatewayID]farGateway{w1: frozen, n1: answers(got)}
			first, second := to(w1), to(n1)
			first.RTT = c.rtt
			inTime(t, far, []forward.Candidate{first, second}, func(t *testing.T, l *pipes, g *gateways) {
				begun := time.Now()
				c1 := l.dial()
				payload := append(hello(t), "and the end"...)
				go func() {
					_, _ = io.WriteString(c1, connectHead())
					// In pieces, some of which come before the second attempt.
					for b := payload; len(b) > 0; {
						n := min(len(b), 700)
						_, _ = c1.Write(b[:n])
						b = b[n:]
						time.Sleep(50 * time.Millisecond)
					}
				}()
				resp := reply(t, c1)
				if took := time.Since(begun); took != c.want {
					t.Errorf("answered after %v, want %v", took, c.want)
				}
				if resp.StatusCode != http.StatusOK || resp.Header.Get("Isthmus-Cluster") != "north" || resp.Header.Get("Isthmus-Instance") != "orders-9" {
					t.Errorf("reply %d %v", resp.StatusCode, resp.Header)
				}
				if b := <-got; !bytes.Equal(b, payload) {
					t.Errorf("the second gateway got %d bytes, want the %d that the client sent", len(b), len(payload))
				}
				if _, err := io.ReadFull(c1, make([]byte, len("served"))); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestARefusalGoesOnToTheNextCandidateAtOnce(t *testing.T) {
	got := make(chan []byte, 1)
	refuse := func(s pipe) {
		_, _ = s.Read(make([]byte, 64<<10))
		_, _ = io.WriteString(s, "HTTP/1.1 503 Busy\r\nProxy-Status: isthmus-west-1; error=destination_unavailable; details=\"nothing ready\"\r\n\r\n")
		_, _ = io.Copy(io.Discard, s)
	}
	far := map[mesh.GatewayID]farGateway{w1: refuse, w2: frozen, n1: answers(got)}
	inTime(t, far, []forward.Candidate{to(w1), to(w2), to(n1)}, func(t *testing.T, l *pipes, g *gateways) {
		begun := time.Now()
		c := l.dial()
		payload := append(hello(t), "the end"...)
		go func() { _, _ = c.Write(append([]byte(connectHead()), payload...)) }()
		if resp := reply(t, c); resp.StatusCode != http.StatusOK || time.Since(begun) != 0 {
			t.Errorf("status %d after %v, want 200 at once", resp.StatusCode, time.Since(begun))
		}
		if b := <-got; !bytes.Equal(b, payload) {
			t.Errorf("the next got %d bytes, want %d", len(b), len(payload))
		}
		// The refusing gateway spoke for its cluster: its sibling is asked last.
		if !slices.Equal(g.open, []mesh.GatewayID{w1, n1}) {
			t.Errorf("asked %v", g.open)
		}
		_ = c.Close()
	})
}

func TestWhenNobodyServesTheRefusalSaysWhyOfEach(t *testing.T) {
	far := map[mesh.GatewayID]farGateway{w1: func(s pipe) {
		_, _ = s.Read(make([]byte, 64<<10))
		_, _ = io.WriteString(s, "HTTP/1.1 404 Not Found\r\nProxy-Status: isthmus-west-1; error=destination_not_found; details=\"never heard of it\"\r\n\r\n")
		_, _ = io.Copy(io.Discard, s)
	}}
	inTime(t, far, []forward.Candidate{to(w1), to(n1)}, func(t *testing.T, l *pipes, g *gateways) {
		c := l.dial()
		go func() { _, _ = io.WriteString(c, connectHead()) }()
		refused(t, reply(t, c), http.StatusServiceUnavailable, "west/west-1: never heard of it", "north/north-1: open a stream: tunnel down")
		_ = c.Close()
	})
}

func TestAGatewayStandsForItsClusterWhateverItSays(t *testing.T) {
	for says, instance := range map[string]string{
		"Isthmus-Cluster: WEST!":                               "",
		"Isthmus-Cluster: north\r\nIsthmus-Instance: orders-9": "orders-9", // who would be blamed for what west does
	} {
		far := map[mesh.GatewayID]farGateway{w1: func(s pipe) {
			_, _ = s.Read(make([]byte, 64<<10))
			_, _ = io.WriteString(s, "HTTP/1.1 200 OK\r\n"+says+"\r\n\r\n")
			_, _ = io.Copy(io.Discard, s)
		}}
		inTime(t, far, []forward.Candidate{to(w1)}, func(t *testing.T, l *pipes, g *gateways) {
			c := l.dial()
			go func() { _, _ = c.Write(append([]byte(connectHead()), hello(t)...)) }()
			resp := reply(t, c)
			if got := resp.Header; got.Get("Isthmus-Cluster") != "west" || got.Get("Isthmus-Instance") != instance {
				t.Errorf("reply %v to %q, want the gateway's own cluster and instance %q", got, says, instance)
			}
			_ = c.Close()
		})
	}
}

func TestASetupThatNobodyAnswersEnds(t *testing.T) {
	far := map[mesh.GatewayID]farGateway{w1: frozen, w2: frozen, n1: frozen}
	inTime(t, far, []forward.Candidate{to(w1), to(w2), to(n1)}, func(t *testing.T, l *pipes, g *gateways) {
		begun := time.Now()
		c := l.dial()
		go func() { _, _ = c.Write(append([]byte(connectHead()), hello(t)...)) }()
		refused(t, reply(t, c), http.StatusGatewayTimeout, connect.ConnectionTimeout)
		if took := time.Since(begun); took != 10*time.Second {
			t.Errorf("refused after %v", took)
		}
		if want := []time.Duration{0, 200 * time.Millisecond, 400 * time.Millisecond}; len(g.at) != 3 ||
			g.at[1].Sub(g.at[0]) != want[1] || g.at[2].Sub(g.at[0]) != want[2] {
			t.Errorf("asked %v at %v", g.open, g.at)
		}
		_ = c.Close()
	})
}

func TestAClientThatGoesAwayEndsItsAttempts(t *testing.T) {
	far := map[mesh.GatewayID]farGateway{w1: frozen}
	inTime(t, far, []forward.Candidate{to(w1)}, func(t *testing.T, l *pipes, g *gateways) {
		begun := time.Now()
		c := l.dial()
		_, _ = io.WriteString(c, connectHead())
		synctest.Wait()
		_ = c.Close()
		g.wg.Wait()
		if took := time.Since(begun); took != 0 {
			t.Errorf("the stream was held for %v", took)
		}
	})
}

func TestAClientThatSendsMoreThanIsKeptWaits(t *testing.T) {
	payload := append(hello(t), make([]byte, 300<<10)...)
	arrived := make(chan error, 1)
	slow := func(s pipe) {
		b := make([]byte, 1<<20)
		n, _ := s.Read(b)
		_, payload, _ := bytes.Cut(b[:n], []byte("\r\n\r\n"))
		total := len(payload)
		// Everything that is kept comes before the answer, and no more.
		idle := time.AfterFunc(100*time.Millisecond, func() { _ = s.SetReadDeadline(time.Now()) })
		for {
			n, err := s.Read(b)
			total += n
			if err != nil {
				break
			}
			idle.Reset(100 * time.Millisecond)
		}
		if total > 64<<10 || total < 56<<10 {
			t.Errorf("%d bytes came before the answer, want up to 64 KiB", total)
		}
		_ = s.SetReadDeadline(time.Time{})
		_, _ = io.WriteString(s, "HTTP/1.1 200 OK\r\n\r\n")
		_, err := io.CopyN(io.Discard, s, int64(len(payload)-total))
		arrived <- err
	}
	inTime(t, map[mesh.GatewayID]farGateway{w1: slow}, []forward.Candidate{to(w1)}, func(t *testing.T, l *pipes, g *gateways) {
		c := l.dial()
		go func() {
			_, _ = io.WriteString(c, connectHead())
			_, _ = c.Write(payload)
		}()
		if resp := reply(t, c); resp.StatusCode != http.StatusOK {
			t.Errorf("status %d", resp.StatusCode)
		}
		if err := <-arrived; err != nil {
			t.Errorf("not all of the payload arrived: %v", err)
		}
		_ = c.Close()
	})
}

func TestAHeadThatDoesNotComeEndsTheConnection(t *testing.T) {
	for name, first := range map[string]string{
		"nothing":                "",
		"half a CONNECT":         "CONNECT orders.shop",
		"half a ClientHello":     string([]byte{22, 3, 1, 1, 0, 1}),
		"a byte now and then":    "CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC",
		"CONNECT and no payload": connectHead(),
	} {
		t.Run(name, func(t *testing.T) {
			far := map[mesh.GatewayID]farGateway{w1: func(s pipe) {
				_, _ = s.Read(make([]byte, 4096))
				_, _ = io.WriteString(s, "HTTP/1.1 200 OK\r\n\r\n")
				_, _ = io.Copy(io.Discard, s)
			}}
			inTime(t, far, []forward.Candidate{to(w1)}, func(t *testing.T, l *pipes, g *gateways) {
				begun := time.Now()
				c := l.dial()
				var writer sync.WaitGroup
				defer writer.Wait()
				writer.Go(func() {
					if strings.HasPrefix(first, "CCC") {
						for _, b := range []byte(first) {
							if _, err := c.Write([]byte{b}); err != nil {
								return
							}
							time.Sleep(time.Second)
						}
						return
					}
					if first != "" {
						_, _ = io.WriteString(c, first)
					}
				})
				_, err := io.Copy(io.Discard, c)
				if took := time.Since(begun); took != 10*time.Second {
					t.Errorf("closed after %v (%v), want 10 s", took, err)
				}
			})
		})
	}
}

func TestNearTheDeadlineOfADrainAPathIsClosedBetweenTwoExchanges(t *testing.T) {
	got := make(chan []byte, 1)
	far := map[mesh.GatewayID]farGateway{w1: func(s pipe) {
		answers(got)(s)
		_, _ = io.Copy(io.Discard, s) // a pooled connection: neither end closes it
	}}
	inTime(t, far, []forward.Candidate{to(w1)}, func(t *testing.T, l *pipes, g *gateways) {
		c := l.dial()
		payload := append(hello(t), "the end"...)
		go func() { _, _ = c.Write(append([]byte(connectHead()), payload...)) }()
		reply(t, c)
		<-got
		if _, err := io.ReadFull(c, make([]byte, len("served"))); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		drained := make(chan error, 1)
		go func() { drained <- g.forward.Shutdown(ctx) }()
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read gives %v, want the end", err)
		}
		if err := <-drained; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if took := time.Since(begun); took < 8*time.Second || took > 9*time.Second {
			t.Errorf("closed after %v, want it in the last fifth of 10 s", took)
		}
	})
}
