package relay_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/internal/socket/sockettest"
)

// flood is how many bytes a client sends at once: more than all sockets of a path hold.
const flood = 64 << 20

// flooded returns the outer ends of a relayed path on which flood bytes are on their way
// from client to server, who reads nothing, and then the client's end.
func flooded(t *testing.T, idle time.Duration, wrap func(*net.TCPConn) relay.Conn) (client, server *net.TCPConn, wrote <-chan error, done <-chan result) {
	t.Helper()
	client, a := sockettest.Pair(t)
	b, server := sockettest.Pair(t)
	c := make(chan result, 1)
	go func() {
		stats, err := relay.Copy(t.Context(), wrap(a), b, idle)
		c <- result{stats, err}
	}()
	w := make(chan error, 1)
	go func() {
		_, err := client.Write(make([]byte, flood))
		_ = client.CloseWrite()
		w <- err
	}()
	return client, server, w, c
}

// spliced waits until a direction is spliced.
func spliced(t *testing.T) {
	t.Helper()
	for relay.Splices() == 0 {
		if t.Context().Err() != nil {
			t.Fatal("nothing is spliced")
		}
		runtime.Gosched()
	}
}

// bare is a TCP connection whose bytes may go another way, as a redirected one's do.
type bare struct {
	net.Conn
	tcp *net.TCPConn
}

func (b bare) CloseWrite() error                     { return b.tcp.CloseWrite() }
func (b bare) SyscallConn() (syscall.RawConn, error) { return b.tcp.SyscallConn() }
func (b bare) SetLinger(sec int) error               { return b.tcp.SetLinger(sec) }
func asItIs(c *net.TCPConn) relay.Conn               { return c }
func withPrefix(c *net.TCPConn) relay.Conn           { return relay.WithPrefix(c, []byte("prefix")) }
func wrapped(c *net.TCPConn) relay.Conn              { return bare{c, c} }

func TestOnlyPlainSocketsAreSpliced(t *testing.T) {
	for _, c := range []struct {
		name   string
		wrap   func(*net.TCPConn) relay.Conn
		extra  int
		splice bool
	}{
		{"plain", asItIs, 0, true},
		{"behind what was read before", withPrefix, len("prefix"), true},
		{"wrapped", wrapped, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, server, _, done := flooded(t, 0, c.wrap)
			if c.splice {
				spliced(t)
			}
			want := int64(flood + c.extra)
			var got int64
			for b := make([]byte, 64<<10); ; {
				n, err := server.Read(b)
				got += int64(n)
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if !c.splice && relay.Splices() > 0 {
					t.Fatal("it is spliced")
				}
			}
			if got != want {
				t.Fatalf("%d bytes arrive, %d were sent", got, want)
			}
			_, _ = server.Write([]byte("thanks"))
			_ = server.Close()
			if b, err := io.ReadAll(client); string(b) != "thanks" || err != nil {
				t.Fatalf("%q, %v", b, err)
			}
			if r := <-done; r.err != nil || r.stats != (relay.Stats{AToB: want, BToA: 6}) {
				t.Fatalf("%+v, want %d bytes", r, want)
			}
			if n := relay.Splices(); n != 0 {
				t.Errorf("%d directions are spliced afterwards", n)
			}
		})
	}
}

func TestTLSIsNoSocket(t *testing.T) {
	a, _ := sockettest.Pair(t)
	if relay.Socket(tls.Client(a, &tls.Config{})) != nil {
		t.Error("the socket below TLS is taken for the connection")
	}
}

func TestABreakWhileSplicingIsPassedOn(t *testing.T) {
	client, server, wrote, done := flooded(t, 0, asItIs)
	spliced(t)
	_ = server.SetLinger(0)
	_ = server.Close()
	if r := <-done; r.err == nil {
		t.Error("Copy reports a clean end")
	}
	// One of them is told, whoever comes first.
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) && <-wrote == nil {
		t.Errorf("read gives %v and all was written, want a reset", err)
	}
}

func TestASpliceThatHangsIsIdle(t *testing.T) {
	_, _, _, done := flooded(t, 500*time.Millisecond, asItIs)
	if r := <-done; !errors.Is(r.err, relay.ErrIdle) {
		t.Fatalf("Copy returns %v, want %v", r.err, relay.ErrIdle)
	}
}

func TestTheEndOfTheContextEndsASplice(t *testing.T) {
	client, a := sockettest.Pair(t)
	b, _ := sockettest.Pair(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := relay.Copy(ctx, a, b, 0)
		done <- err
	}()
	go func() { _, _ = client.Write(make([]byte, flood)) }()
	spliced(t)
	cause := errors.New("drained")
	cancel(cause)
	if err := <-done; !errors.Is(err, cause) {
		t.Fatalf("Copy returns %v, want %v", err, cause)
	}
}

// BenchmarkBulk is bytes one way between plain sockets.
func BenchmarkBulk(b *testing.B) {
	for _, c := range []struct {
		name string
		wrap func(*net.TCPConn) relay.Conn
	}{{"spliced", asItIs}, {"copied", wrapped}} {
		b.Run(c.name, func(b *testing.B) {
			client, a := sockettest.Pair(b)
			in, server := sockettest.Pair(b)
			go func() { _, _ = relay.Copy(b.Context(), c.wrap(a), in, 0) }()
			go func() { _, _ = io.Copy(io.Discard, bare{server, server}) }()
			chunk := make([]byte, 1<<20)
			b.SetBytes(1 << 20)
			for b.Loop() {
				if _, err := client.Write(chunk); err != nil {
					b.Fatal(err)
				}
			}
			_ = client.Close()
			_ = server.Close()
		})
	}
}
