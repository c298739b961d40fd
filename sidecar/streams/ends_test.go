package streams

import (
	"io"
	"net"
	"testing"
	"testing/synctest"

	"github.com/isthmus-mesh/isthmus/sidecar/http2"
)

func TestCloseWaitsForWhoWasToldThatAStreamIsReadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := serveWith(t, nil, func(s *Stream) { // until the client ends it
			_, _, _ = s.ReadHead(nil)
			_ = s.Await()
		})
		s := open(t, c, post, false)
		release, closed := make(chan struct{}), false
		s.OnReadable(func() { <-release })
		s.Reset(http2.Cancel)
		go func() {
			_ = c.Close()
			closed = true
		}()
		synctest.Wait()
		if closed {
			t.Error("Close returned while somebody was being told")
		}
		close(release)
		synctest.Wait()
		if !closed {
			t.Error("Close did not return")
		}
		s.Release()
	})
}

// writes is a connection that calls write before each Write.
type writes struct {
	net.Conn
	write func()
}

func (w *writes) Write(b []byte) (int, error) {
	w.write()
	return w.Conn.Write(b)
}

func TestNobodyWritesOnceAConnectionIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		nc := &writes{Conn: near, write: func() {}}
		c := Client(nc, Config{})
		synctest.Wait()
		n := 0
		more := func() { c.out.put(append(c.out.buffer(), "more"...)) }
		nc.write = func() {
			if n++; n == maxTurns {
				nc.write = func() {}
				_ = c.Close() // all of its goroutines have ended
				nc.Conn, _ = net.Pipe()
				nc.Conn = discards{nc.Conn}
			}
			c.mu.Lock()
			more()
			c.mu.Unlock()
		}
		c.mu.Lock()
		more()
		c.unlockAndWrite()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.writer.busy || c.out.batch != nil {
			t.Error("somebody writes to a connection whose Close has returned")
		}
	})
}

// discards takes all that is written.
type discards struct{ net.Conn }

func (discards) Write(b []byte) (int, error) { return len(b), nil }
