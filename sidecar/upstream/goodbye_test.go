package upstream

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// gatewayEnds is a gateway that gives the test its end of each path.
func gatewayEnds(t *testing.T, w *world) (*Service, chan net.Conn) {
	t.Helper()
	ends := make(chan net.Conn, 16)
	g := fakeGateway{decide: func(string) (string, func(net.Conn)) {
		return okReply, func(c net.Conn) { ends <- c; echo(w.orders)(c) }
	}}
	_, s := w.set(t, &mesh.Route{Gateways: at(serve(t, g.handle), "")})
	return s, ends
}

func TestAPathWithAGoodbyeServesItsExchangeAndIsNotUsedAgain(t *testing.T) {
	s, ends := gatewayEnds(t, newWorld(t))
	h, conn := mustGet(t, s)
	exchange(t, conn, "before")
	if _, err := (<-ends).Write(connect.AppendGoodbye(nil)); err != nil {
		t.Fatal(err)
	}
	exchange(t, conn, "crossing")
	h.put(conn)
	if h.pool.len() != 0 {
		t.Error("the path is pooled")
	}
	if _, err := conn.Write([]byte("x")); err == nil {
		t.Error("the path is open")
	}
}

func TestAnIdlePathWithAGoodbyeIsClosedSoon(t *testing.T) {
	s, ends := gatewayEnds(t, newWorld(t))
	h, conn := mustGet(t, s)
	exchange(t, conn, "before")
	h.put(conn)
	if _, err := (<-ends).Write(connect.AppendGoodbye(nil)); err != nil {
		t.Fatal(err)
	}
	settled(t, conn)
	if !conn.saysGoodbye() {
		t.Error("a goodbye is taken for something else")
	}
	h.pool.sweep()
	if h.pool.len() != 0 {
		t.Error("the path is pooled")
	}
}

func TestPathsAreLookedAtMoreOftenThanTheirIdleTimeoutAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(newService(newShared(Config{}), orders, "orders"), hostKey{gateway: true})
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		c := &Conn{Conn: near, sock: near, host: h, dialConfig: &dialConfig{}, path: &pathConn{Conn: near}}
		h.pool.put(c, h.service.shared.now())
		c.path.going.Store(true) // as if it had been read
		time.Sleep(goodbyeSweep + time.Millisecond)
		if h.pool.len() != 0 {
			t.Errorf("the path is pooled %v after its goodbye", goodbyeSweep)
		}
		h.pool.close()
		_ = far.Close()
	})
}
