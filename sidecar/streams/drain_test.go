package streams

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http2"
)

// inBubble runs f in virtual time with a client and a server that echoes over a pipe.
func inBubble(t *testing.T, clientIdle time.Duration, f func(client, server *Conn, near, far net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		server := Server(far, Config{})
		var served sync.WaitGroup
		served.Go(func() { _ = server.Serve(echo) })
		client := Client(near, Config{Idle: clientIdle})
		synctest.Wait()
		f(client, server, near, far)
		_ = client.Close()
		served.Wait()
	})
}

func TestAServerThatDrainsFinishesWhatRuns(t *testing.T) {
	inBubble(t, 0, func(client, server *Conn, _, _ net.Conn) {
		s := open(t, client, post, false)
		synctest.Wait()
		server.Drain()
		synctest.Wait()
		if _, err := client.Open(); err != ErrGoingAway {
			t.Errorf("a stream on a connection that drains: %v", err)
		}
		if _, err := s.WriteLast([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.ReadHead(nil); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(s); err != nil || string(got) != "hello" {
			t.Errorf("what ran came back as %q, %v", got, err)
		}
		s.Release()
		synctest.Wait()
		select {
		case <-client.Done():
		default:
			t.Error("the connection goes on without streams")
		}
		if server.Err() != nil || client.Err() != nil {
			t.Errorf("it did not end in order: %v, %v", server.Err(), client.Err())
		}
	})
}

func TestAClientThatDrainsFinishesWhatRuns(t *testing.T) {
	inBubble(t, 0, func(client, server *Conn, _, _ net.Conn) {
		s := open(t, client, post, true)
		client.Drain()
		synctest.Wait()
		if _, _, err := s.ReadHead(nil); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(s); err != nil {
			t.Fatal(err)
		}
		s.Release()
		synctest.Wait()
		<-client.Done()
		<-server.Done()
		if server.Err() != nil || client.Err() != nil {
			t.Errorf("it did not end in order: %v, %v", server.Err(), client.Err())
		}
	})
}

func TestAnIdleConnectionEnds(t *testing.T) {
	inBubble(t, time.Minute, func(client, _ *Conn, _, _ net.Conn) {
		if err := exchange(client, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		<-client.Done()
		if took := time.Since(began); took < time.Minute || took > time.Minute+2*tick {
			t.Errorf("it ended after %s", took)
		}
	})
}

func TestDeadlinesEndReadsAndWrites(t *testing.T) {
	inBubble(t, 0, func(client, _ *Conn, _, _ net.Conn) {
		s := open(t, client, post, false)
		defer s.Release()
		if _, _, err := s.ReadHead(nil); err != nil {
			t.Fatal(err)
		}
		for _, wait := range []time.Duration{3 * time.Second, time.Second, 0} {
			began := time.Now()
			_ = s.SetReadDeadline(began.Add(wait))
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != wait {
				t.Errorf("with a deadline in %s the read ended after %s with %v", wait, time.Since(began), err)
			}
		}
		_ = s.SetReadDeadline(time.Time{})
		var later sync.WaitGroup
		later.Go(func() {
			time.Sleep(time.Hour)
			_, _ = s.Write([]byte("x"))
		})
		if n, err := s.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("without a deadline the read ended with %v", err)
		}
		later.Wait()
		began := time.Now()
		_ = s.SetWriteDeadline(began.Add(time.Second))
		if _, err := s.Write(make([]byte, 4<<20)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("the write ended after %s with %v", time.Since(began), err)
		}
	})
}

func TestAPeerThatTakesNothingIsDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		client := Client(near, Config{})
		s, err := client.Open()
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_ = s.WriteRequest(get, nil, true)
		if _, _, err := s.ReadHead(nil); !errors.As(err, new(*ConnError)) {
			t.Errorf("reading ended with %v", err)
		}
		if took := time.Since(began); took > stallTimeout {
			t.Errorf("it took %s", took)
		}
		s.Release()
		_ = client.Close()
	})
}

func TestWhatWasNeverWrittenIsKnownToBeUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		client := Client(near, Config{})
		synctest.Wait() // the preface is on its way, and nobody takes it
		s, err := client.Open()
		if err != nil {
			t.Fatal(err)
		}
		_ = s.WriteRequest(get, nil, true)
		client.Abort(io.ErrClosedPipe)
		if _, _, err := s.ReadHead(nil); !errors.Is(err, io.ErrClosedPipe) || s.Sent() {
			t.Errorf("the request ended with %v, sent %v", err, s.Sent())
		}
		s.Release()
		_ = client.Close()
	})
}

func TestAServerWithoutAPrefaceIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		go func() { _, _ = io.Copy(io.Discard, near) }()
		began := time.Now()
		err := Server(far, Config{}).Serve(echo)
		if took := time.Since(began); !errors.Is(err, errNoPreface) || took < prefaceTimeout || took > prefaceTimeout+tick {
			t.Errorf("it ended after %s with %v", took, err)
		}
	})
}

func TestAFaultOfThePeerIsToldBeforeTheConnectionCloses(t *testing.T) {
	near, far := sockets(t)
	server := Server(far, Config{})
	var served sync.WaitGroup
	var fault *http2.Error
	served.Go(func() {
		if err := server.Serve(echo); !errors.As(err, &fault) {
			t.Errorf("the connection ended with %v", err)
		}
	})
	if _, err := io.WriteString(near, "GET / HTTP/1.1\r\nhost: a\r\n\r\nand more that is never read"); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(near)
	if err != nil || len(said) < 17 {
		t.Errorf("the peer was told %q, %v", said, err)
	}
	_ = near.Close()
	served.Wait()
}

func TestADrainLeavesASlowClientTheTimeToTakeItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		server := Server(far, Config{})
		const size = 32 << 10
		told := make(chan struct{})
		var served sync.WaitGroup
		served.Go(func() {
			_ = server.Serve(func(s *Stream) {
				_, _, _ = s.ReadHead(nil)
				<-told
				_ = s.WriteResponse(200, nil, false)
				_, _ = s.WriteLast(make([]byte, size))
			})
		})
		engine := http2.NewClient(http2.Settings{})
		out := engine.Start(nil)
		id, err := engine.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := near.Write(engine.EndHead(engine.BeginRequest(out, id, get), true)); err != nil {
			t.Fatal(err)
		}
		got, filled, b, ev := 0, 0, make([]byte, 64<<10), http2.Event{}
		for paused := false; !ev.End; {
			n, err := near.Read(b[filled:])
			if err != nil {
				t.Fatalf("%d bytes of the answer came, and then %v", got, err)
			}
			used := 1
			for filled += n; used > 0 && !ev.End; filled = copy(b, b[used:filled]) {
				if used, err = engine.Next(b[:filled], &ev); err != nil {
					t.Fatal(err)
				}
				if ev.Kind == http2.KindData {
					got += len(ev.Payload)
				}
			}
			if out := engine.Output(nil); len(out) > 0 {
				_, _ = near.Write(out)
			}
			if synctest.Wait(); !paused {
				server.Drain()
				if paused = server.GoingAway(); paused { // the client has said that it knows
					close(told)
					time.Sleep(10 * goodbyeTimeout)
				}
			}
		}
		if got != size {
			t.Errorf("%d bytes of %d came", got, size)
		}
		_ = near.Close()
		served.Wait()
	})
}

func TestADrainThatIsNotAcknowledgedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		server := Server(far, Config{Idle: time.Minute})
		var served sync.WaitGroup
		served.Go(func() { _ = server.Serve(echo) })
		go func() { _, _ = io.Copy(io.Discard, near) }()
		if _, err := near.Write(http2.NewClient(http2.Settings{}).Start(nil)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		<-server.Done()
		if took := time.Since(began); took > time.Minute+2*drainTimeout {
			t.Errorf("it ended after %s", took)
		}
		served.Wait()
		_ = near.Close()
	})
}

func TestAStreamThatWaitsForItsWindowHoldsNoQueue(t *testing.T) {
	inBubble(t, 0, func(client, _ *Conn, _, _ net.Conn) {
		s := open(t, client, post, false)
		var writing sync.WaitGroup
		writing.Go(func() { _, _ = s.Write(make([]byte, 4<<20)) }) // what comes back is not read
		time.Sleep(time.Minute)
		client.mu.Lock()
		if client.out.batch != nil || client.writer.busy {
			t.Error("a queue is held while nothing can be sent")
		}
		client.mu.Unlock()
		_ = s.Abort()
		writing.Wait()
		s.Release()
	})
}

// mute is a connection whose writes fail once it is told so.
type mute struct {
	net.Conn
	fails atomic.Bool
}

func (m *mute) Write(b []byte) (int, error) {
	if m.fails.Load() {
		return 0, syscall.EPIPE
	}
	return m.Conn.Write(b)
}

func TestAWriteThatFailsLeavesTimeToReadWhichStreamsWereNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		m := &mute{Conn: near}
		client := Client(m, Config{})
		defer client.Close()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		server := http2.NewServer(http2.Settings{})
		if _, err := far.Write(server.Start(nil)); err != nil {
			t.Fatal(err)
		}
		seen, unseen := open(t, client, get, true), open(t, client, get, true)
		synctest.Wait()
		m.fails.Store(true)
		late := open(t, client, get, true) // its write fails
		synctest.Wait()
		if _, err := far.Write([]byte("\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00")); err != nil { // GOAWAY: stream 1 was the last
			t.Fatal(err)
		}
		_ = far.Close()
		for s, want := range map[*Stream]bool{seen: false, unseen: true, late: true} {
			_, _, err := s.ReadHead(nil)
			reset, ok := errors.AsType[*ResetError](err)
			if err == nil || (ok && reset.Unprocessed) != want {
				t.Errorf("%v: unprocessed %v", err, want)
			}
			s.Release()
		}
	})
}

func TestAConnectionThatCannotBeWrittenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		m := &mute{Conn: near}
		client := Client(m, Config{})
		defer client.Close()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		if _, err := far.Write(http2.NewServer(http2.Settings{}).Start(nil)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		m.fails.Store(true)
		s := open(t, client, get, true)
		if _, _, err := s.ReadHead(nil); !errors.Is(err, syscall.EPIPE) {
			t.Error(err)
		}
		s.Release()
		<-client.Done()
	})
}
