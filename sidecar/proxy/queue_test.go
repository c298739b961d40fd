package proxy

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/drain"
)

func TestWhoWaitsInTheKernelsQueueIsServedBeforeAListenerCloses(t *testing.T) {
	l := listen(t)
	const n = 20
	for range n { // they send and end before anybody accepts
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("all of it")); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	q := &queue{TCPListener: l.(*net.TCPListener), conns: drain.NewSet()}
	q.finish()
	served := 0
	for {
		c, err := q.Accept()
		if errors.Is(err, net.ErrClosed) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); string(b) != "all of it" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		if q.conns.Len() != 1 {
			t.Errorf("%d connections are open", q.conns.Len())
		}
		_ = c.Close()
		served++
	}
	if served != n || q.conns.Len() != 0 {
		t.Errorf("%d served of %d, %d are open", served, n, q.conns.Len())
	}
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("it still listens")
	}
}
