package proxy

import (
	"io"
	"net"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/exchange"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

const (
	// maxMirrors bounds the mirrored requests that run at a time; what is beyond is not mirrored.
	maxMirrors = 64
	// mirrorTimeout ends one whose answer takes longer.
	mirrorTimeout = 15 * time.Second
	// mirrorLabel is under what mirrored requests are counted.
	mirrorLabel = "mirrored"
)

// mirrors sends copies of requests to those whose answers nobody reads, each once, on a goroutine
// of its own.
type mirrors struct {
	p      *Proxy
	places chan struct{}

	mu      sync.Mutex
	ended   bool
	running sync.WaitGroup
}

func newMirrors(p *Proxy) *mirrors { return &mirrors{p: p, places: make(chan struct{}, maxMirrors)} }

// send is [exchange.Routing.Mirror].
func (m *mirrors) send(to mesh.Destination, message []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return
	}
	select {
	case m.places <- struct{}{}:
	default:
		m.p.metrics.mirrored.WithLabelValues("dropped").Inc()
		return
	}
	m.p.metrics.mirrored.WithLabelValues("sent").Inc()
	m.running.Go(func() {
		defer func() { <-m.places }()
		m.exchange(to, message)
	})
}

// exchange has the message served as if a client had sent it.
func (m *mirrors) exchange(to mesh.Destination, message []byte) {
	s := m.p.toward(to, mirrorLabel)
	s.http.Routing, s.http.Retries = nil, upstream.RetryPolicy{Hosts: 1, Sends: 1}
	s.http.Timeouts.Request = mirrorTimeout
	near, far := net.Pipe()
	c := &exchange.Client{Conn: pipe{far}, Accepted: far}
	if c.Open = s.conns().Add(c.End, c.SetReadDeadline); c.Open == nil {
		_, _ = near.Close(), far.Close() // the proxy drains
		return
	}
	defer c.Open.Remove()
	var client sync.WaitGroup
	client.Go(func() {
		defer near.Close()
		_ = near.SetDeadline(time.Now().Add(mirrorTimeout + time.Second))
		if _, err := near.Write(message); err == nil {
			_, _ = io.Copy(io.Discard, near)
		}
	})
	s.http.Serve(m.p.ctx, c, s.rewrite, nil)
	client.Wait()
}

// end takes no more, and returns when none runs any more: the proxy's context is over.
func (m *mirrors) end() {
	m.mu.Lock()
	m.ended = true
	m.mu.Unlock()
	m.running.Wait()
}

// pipe is a pipe's end as a relay sees one.
type pipe struct{ net.Conn }

// CloseWrite does nothing: a pipe's end closes whole, which the client's end of it does.
func (p pipe) CloseWrite() error { return nil }

// Abort closes the pipe.
func (p pipe) Abort() error { return p.Close() }
