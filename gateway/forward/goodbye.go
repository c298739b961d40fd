package forward

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// farewell is a client that asked for goodbyes. What is written to it are TLS
// records, whole or in pieces.
type farewell struct {
	relay.Conn
	wanted atomic.Bool // a goodbye is to be said

	mu      sync.Mutex // held while something is written
	records connect.Records
	said    bool
}

// Write writes b, and the goodbye behind it when it has been waiting for the end of
// a record.
func (w *farewell) Write(b []byte) (int, error) {
	w.mu.Lock()
	n, err := w.Conn.Write(b)
	w.records.Pass(b[:n])
	w.mu.Unlock()
	if w.wanted.Load() {
		w.say()
	}
	return n, err
}

// goodbye says goodbye now, or as soon as a record that is being written is whole.
func (w *farewell) goodbye() {
	w.wanted.Store(true)
	w.say()
}

// say says what is wanted, unless somebody writes: he says it afterwards.
func (w *farewell) say() {
	if !w.mu.TryLock() {
		return
	}
	defer w.mu.Unlock()
	if w.records.Between() && !w.said {
		w.said = true
		_, _ = w.Conn.Write(connect.AppendGoodbye(nil)) // who reads notices a broken connection
	}
}

// NetConn returns the connection below, for [relay.Abort].
func (w *farewell) NetConn() net.Conn { return w.Conn }

// expectGoodbye lets the client of p be told when the gateway drains, or the endpoint
// that serves goes away ([Forward.Retire]). stop waits for what is being written; it
// needs the client to be closed, or about to be aborted.
func (p *path) expectGoodbye(served *Candidate) (stop func()) {
	f := p.f
	w := &farewell{Conn: p.conn}
	p.conn = w
	ctx, retire := context.WithCancel(f.draining)
	if !served.Remote() {
		f.toEndpoints.add(p, &toEndpoint{served: served, retire: retire})
	}
	said := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(said)
		w.goodbye()
	})
	return func() {
		f.toEndpoints.remove(p)
		if !unhook() {
			<-said
		}
		retire()
	}
}

// toEndpoint is a path that ends at an endpoint of this cluster.
type toEndpoint struct {
	served *Candidate
	retire context.CancelFunc
}

// toEndpoints are the paths that end at endpoints of this cluster and whose clients
// asked for goodbyes. The methods may be called concurrently.
type toEndpoints struct {
	mu   sync.Mutex
	open map[*path]*toEndpoint
}

func (t *toEndpoints) add(p *path, e *toEndpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[p] = e
}

func (t *toEndpoints) remove(p *path) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, p)
}

// Retire says goodbye on the paths to endpoints that may not serve any more, as
// serves says: what runs on them goes on, and their callers take others. It calls
// serves once for each path and holds up new paths meanwhile.
func (f *Forward) Retire(serves func(mesh.Destination, *mesh.Endpoint) bool) {
	t := &f.toEndpoints
	t.mu.Lock()
	defer t.mu.Unlock()
	for p, e := range t.open {
		if !serves(p.req.Destination, &e.served.Endpoint) {
			e.retire()
		}
	}
}
