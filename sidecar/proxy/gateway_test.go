package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// fakeGateway stands in for a gateway's mesh port: it relays every CONNECT to
// target, and can be told to refuse, to freeze and to cut all paths.
type fakeGateway struct {
	addr   string
	target string
	refuse atomic.Bool

	mu     sync.Mutex
	frozen chan struct{} // nil: not frozen; closed by thaw
	conns  map[net.Conn]struct{}
	run    sync.WaitGroup
}

func newGateway(t *testing.T, target string) *fakeGateway {
	l := listen(t)
	g := &fakeGateway{addr: l.Addr().String(), target: target, conns: make(map[net.Conn]struct{})}
	g.run.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g.run.Go(func() { g.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		g.thaw()
		g.cut()
		g.run.Wait()
	})
	return g
}

func (g *fakeGateway) serve(c net.Conn) {
	g.track(c)
	defer g.untrack(c)
	br := bufio.NewReader(c)
	if _, err := http.ReadRequest(br); err != nil {
		return
	}
	g.wait()
	if g.refuse.Load() {
		_, _ = io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nProxy-Status: isthmus-east-1; error=destination_unavailable; details=\"no reachable cluster\"\r\nContent-Length: 0\r\n\r\n")
		return
	}
	far, err := net.Dial("tcp", g.target)
	if err != nil {
		return
	}
	g.track(far)
	defer g.untrack(far)
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nIsthmus-Cluster: west\r\nIsthmus-Instance: orders-1\r\n\r\n")
	g.run.Go(func() { g.copy(far, br); _ = far.(*net.TCPConn).CloseWrite() })
	g.copy(c, far)
}

func (g *fakeGateway) copy(dst io.Writer, src io.Reader) {
	b := make([]byte, 32<<10)
	for {
		n, err := src.Read(b)
		g.wait()
		if _, werr := dst.Write(b[:n]); err != nil || werr != nil {
			return
		}
	}
}

func (g *fakeGateway) track(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns[c] = struct{}{}
}

func (g *fakeGateway) untrack(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
	_ = c.Close()
}

func (g *fakeGateway) wait() {
	g.mu.Lock()
	f := g.frozen
	g.mu.Unlock()
	if f != nil {
		<-f
	}
}

func (g *fakeGateway) freeze() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.frozen = make(chan struct{})
}

func (g *fakeGateway) thaw() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.frozen != nil {
		close(g.frozen)
		g.frozen = nil
	}
}

// cut ends all paths, as the lower layers do when a tunnel is dead.
func (g *fakeGateway) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		_ = c.Close()
	}
}
