package exchange

import (
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http1"
)

// pipeEnd is the client's end of an upload.
type pipeEnd struct {
	clientEnd
	conn net.Conn
}

func (p pipeEnd) Read(b []byte) (int, error)        { return p.conn.Read(b) }
func (p pipeEnd) SetReadDeadline(t time.Time) error { return p.conn.SetReadDeadline(t) }
func (p pipeEnd) ready() bool                       { return true }

// sink is a host that takes everything.
type sink struct {
	hostEnd
	aborted atomic.Bool
}

func (s *sink) Write(b []byte) (int, error)      { return len(b), nil }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }
func (s *sink) Abort() error                     { s.aborted.Store(true); return nil }

func TestAClientThatListensMaySayNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r http1.Request
		if n, err := r.Parse([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")); n == 0 || err != nil {
			t.Fatal(n, err)
		}
		ours, theirs := net.Pipe()
		defer theirs.Close()
		host := &sink{}
		u := &upload{client: pipeEnd{conn: ours}, bounds: bounds{idle: time.Minute}, body: r.Body()}
		u.take(u.client, 0)
		u.recordMoved()
		u.start(host)
		for range 20 {
			time.Sleep(30 * time.Second)
			u.recordMoved() // as the answer does
		}
		if host.aborted.Load() {
			t.Error("ended while the answer goes on")
		}
		time.Sleep(3 * time.Minute)
		if !host.aborted.Load() {
			t.Error("nothing moves, and it has not ended")
		}
		u.release()
	})
}
