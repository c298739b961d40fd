package relay_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/internal/socket/sockettest"
)

type result struct {
	stats relay.Stats
	err   error
}

// relayed returns the outer ends of a relayed path, and its result.
func relayed(t *testing.T, ctx context.Context, idle time.Duration) (client, server *net.TCPConn, done <-chan result) {
	t.Helper()
	client, a := sockettest.Pair(t)
	b, server := sockettest.Pair(t)
	c := make(chan result, 1)
	go func() {
		stats, err := relay.Copy(ctx, a, b, idle)
		c <- result{stats, err}
	}()
	return client, server, c
}

func TestEachDirectionEndsOnItsOwn(t *testing.T) {
	for _, first := range []string{"client", "server"} {
		t.Run(first+" first", func(t *testing.T) {
			client, server, done := relayed(t, t.Context(), 0)
			from, to := client, server
			if first == "server" {
				from, to = server, client
			}
			big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
			go func() {
				_, _ = from.Write(big)
				_ = from.CloseWrite()
			}()
			got, err := io.ReadAll(to)
			if err != nil || !bytes.Equal(got, big) {
				t.Fatalf("%d bytes, %v; want %d and the end", len(got), err, len(big))
			}
			// The other direction goes on after that.
			if _, err := to.Write([]byte("answer")); err != nil {
				t.Fatal(err)
			}
			_ = to.CloseWrite()
			if got, err := io.ReadAll(from); err != nil || string(got) != "answer" {
				t.Fatalf("%q, %v; want the answer and the end", got, err)
			}
			r := <-done
			want := relay.Stats{AToB: int64(len(big)), BToA: 6}
			if first == "server" {
				want = relay.Stats{AToB: 6, BToA: int64(len(big))}
			}
			if r.err != nil || r.stats != want {
				t.Fatalf("%+v, want %+v", r, want)
			}
		})
	}
}

func TestAResetIsPassedOnAsAReset(t *testing.T) {
	client, server, done := relayed(t, t.Context(), 0)
	if _, err := client.Write([]byte("half of a mess")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(server, make([]byte, 14)); err != nil {
		t.Fatal(err)
	}
	_ = client.SetLinger(0)
	_ = client.Close()
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read gives %v, want a reset: the stream was cut off", err)
	}
	if r := <-done; r.err == nil {
		t.Fatal("Copy reports a clean end")
	}
}

func TestTheEndOfTheContextResetsBothSides(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	client, server, done := relayed(t, ctx, 0)
	cause := errors.New("drained")
	cancel(cause)
	for _, c := range []*net.TCPConn{client, server} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read gives %v, want a reset", err)
		}
	}
	if r := <-done; !errors.Is(r.err, cause) {
		t.Fatalf("Copy returns %v, want %v", r.err, cause)
	}
}

// pipe is a net.Pipe end that can be relayed; its CloseWrite is never reached.
type pipe struct{ net.Conn }

func (p pipe) CloseWrite() error { return p.Close() }

func TestAPathOnWhichNothingMovesEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, a := net.Pipe()
		b, server := net.Pipe()
		done := make(chan result, 1)
		begun := time.Now()
		go func() {
			_, err := relay.Copy(t.Context(), pipe{a}, pipe{b}, time.Minute)
			done <- result{err: err}
		}()
		// Either direction keeps the path.
		for range 5 {
			time.Sleep(50 * time.Second)
			go func() { _, _ = server.Write([]byte("x")) }()
			if _, err := client.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		r := <-done
		if !errors.Is(r.err, relay.ErrIdle) {
			t.Fatalf("Copy returns %v, want %v", r.err, relay.ErrIdle)
		}
		still := time.Since(begun) - 250*time.Second
		if still < time.Minute || still > 75*time.Second {
			t.Fatalf("ended after %v without a byte, want 1 to 1.25 idle timeouts of a minute", still)
		}
	})
}

func TestAWriteThatHangsIsIdleToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, a := net.Pipe()
		b, _ := net.Pipe() // nobody reads
		done := make(chan result, 1)
		go func() {
			_, err := relay.Copy(t.Context(), pipe{a}, pipe{b}, time.Minute)
			done <- result{err: err}
		}()
		go func() { _, _ = client.Write([]byte("into a frozen peer")) }()
		if r := <-done; !errors.Is(r.err, relay.ErrIdle) {
			t.Fatalf("Copy returns %v, want %v", r.err, relay.ErrIdle)
		}
	})
}

func TestAPrefixIsReadFirstAndAbortReachesTheSocket(t *testing.T) {
	client, server := sockettest.Pair(t)
	_, _ = client.Write([]byte("cd"))
	_ = client.CloseWrite()
	c := relay.WithPrefix(server, []byte("ab"))
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "abcd" {
		t.Fatalf("%q, %v; want abcd", got, err)
	}
	relay.Abort(c)
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read gives %v, want a reset", err)
	}
}

func TestAPathThatShallMakeRoomIsClosedBetweenTwoExchanges(t *testing.T) {
	client, a := sockettest.Pair(t)
	b, server := sockettest.Pair(t)
	late, hasten := context.WithCancel(t.Context())
	done := make(chan result, 1)
	go func() {
		stats, err := relay.CopyUntilQuiet(t.Context(), late, a, b, 0)
		done <- result{stats, err}
	}()
	exchange := func(from, to *net.TCPConn, what string) {
		t.Helper()
		if _, err := io.WriteString(from, what); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(to, make([]byte, len(what))); err != nil {
			t.Fatal(err)
		}
	}
	exchange(client, server, "question")
	hasten()
	// The question is answered, however long that takes.
	_ = client.SetReadDeadline(time.Now().Add(400 * time.Millisecond))
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("while the answer is awaited the client reads %v", err)
	}
	_ = client.SetReadDeadline(time.Time{})
	exchange(server, client, "answer")
	for _, c := range []*net.TCPConn{client, server} {
		if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("afterwards %d, %v is read; want a clean end", n, err)
		}
	}
	if r := <-done; r.err != nil || r.stats != (relay.Stats{AToB: 8, BToA: 6}) {
		t.Fatalf("%+v", r)
	}
}
