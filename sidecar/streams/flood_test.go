package streams

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http2"
)

// A ping is answered at once, and payload that moves gives back what pings may cost: only
// that the answers are not read tells a flood.
func TestAClientThatDoesNotReadAnswersIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		server := Server(far, Config{})
		var served sync.WaitGroup
		var ended error
		served.Go(func() {
			ended = server.Serve(func(s *Stream) {
				_, _, _ = s.ReadHead(nil)
				_, _ = io.Copy(io.Discard, struct{ io.Reader }{s})
			})
		})
		engine := http2.NewClient(http2.Settings{})
		out := engine.Start(nil)
		id, _ := engine.OpenStream()
		out = engine.EndHead(engine.BeginRequest(out, id, post), false)
		if _, err := near.Write(out); err != nil {
			t.Fatal(err)
		}
		most := 0
		for range 600 { // 60 KB: the client needs no more window
			out = out[:0]
			for range 100 {
				out, _ = engine.AppendData(out, id, []byte("x"), false)
				out = append(out, ping...)
			}
			if _, err := near.Write(out); err != nil {
				break
			}
			synctest.Wait()
			server.mu.Lock()
			most = max(most, server.out.len())
			over := server.err != nil
			server.mu.Unlock()
			if over {
				break
			}
		}
		if most > maxUnread+maxQueue {
			t.Errorf("%d bytes wait for a client that does not read", most)
		}
		go func() { _, _ = io.Copy(io.Discard, near) }()
		time.Sleep(time.Minute)
		_ = near.Close()
		served.Wait()
		if !errors.Is(ended, http2.ErrNotReading) {
			t.Errorf("it ended with %v", ended)
		}
	})
}

// ping is a PING frame.
const ping = "\x00\x00\x08\x06\x00\x00\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08"

func TestKeepalivesOfAnIdleClientAreNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		server := Server(far, Config{})
		var served sync.WaitGroup
		served.Go(func() { _ = server.Serve(echo) })
		go func() { _, _ = io.Copy(io.Discard, near) }()
		engine := http2.NewClient(http2.Settings{})
		if _, err := near.Write(engine.Start(nil)); err != nil {
			t.Fatal(err)
		}
		for i := range 1200 {
			time.Sleep(10 * time.Second)
			if _, err := near.Write([]byte(ping)); err != nil {
				t.Fatalf("keepalive %d: %v", i, err)
			}
		}
		synctest.Wait()
		if err := server.Err(); err != nil {
			t.Error(err)
		}
		_ = near.Close()
		served.Wait()
	})
}

// A program that takes small heads ends the connection with a large one, and with it the
// streams of other callers.
func TestAHeadThatTheOtherEndDoesNotTakeIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		client := Client(near, Config{})
		go func() { _, _ = io.Copy(io.Discard, far) }()
		if _, err := io.WriteString(far, "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x06\x00\x00\x20\x00"); err != nil { // 8 KiB
			t.Fatal(err)
		}
		synctest.Wait()
		s, err := client.Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.WriteRequest(get, []Field{{Name: []byte("cookie"), Value: make([]byte, 8<<10)}}, true); !errors.Is(err, ErrHeadNotTaken) {
			t.Fatal(err)
		}
		s.Release()
		s = open(t, client, get, true)
		s.Release()
		if err := client.Err(); err != nil || client.Streams() != 0 {
			t.Fatal(err, client.Streams())
		}
		_ = client.Close()
		_ = far.Close()
	})
}

// Each of them would cost a program a request, and its peer 50 bytes (CVE-2023-44487).
func TestAStreamThatIsResetRightBehindItsHeadIsNotServed(t *testing.T) {
	for name, fault := range map[string]func(e *http2.Conn, out []byte, id uint32) []byte{
		"by the client": func(e *http2.Conn, out []byte, id uint32) []byte { return e.AppendReset(out, id, http2.Cancel) },
		"by us": func(_ *http2.Conn, out []byte, id uint32) []byte { // DATA behind the end
			return append(out, 0, 0, 1, 0, 0, 0, 0, 0, byte(id), 'x')
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				server := Server(far, Config{})
				var all, served sync.WaitGroup
				var paths []string
				all.Go(func() {
					_ = server.Serve(func(s *Stream) {
						text, _, _ := s.ReadHead(nil)
						paths = append(paths, string(text[:4]))
						_ = s.WriteResponse(200, nil, true)
					})
				})
				served.Go(func() { _, _ = io.Copy(io.Discard, near) })
				engine := http2.NewClient(http2.Settings{})
				out := engine.Start(nil)
				for range 20 {
					id, _ := engine.OpenStream()
					out = engine.EndHead(engine.BeginRequest(out, id, get), true)
					out = fault(engine, out, id)
				}
				id, _ := engine.OpenStream()
				out = engine.EndHead(engine.BeginRequest(out, id, get), true)
				if _, err := near.Write(out); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if len(paths) != 1 {
					t.Errorf("%d streams were served, want the one that was not reset", len(paths))
				}
				server.mu.Lock()
				made := len(server.streams.using) + len(server.streams.free) // each with a goroutine, once it has begun
				server.mu.Unlock()
				if made != 1 {
					t.Errorf("%d streams were made, want one for all", made)
				}
				_ = near.Close()
				all.Wait()
				served.Wait()
			})
		})
	}
}
