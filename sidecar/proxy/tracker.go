package proxy

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// tracker knows the open client connections, so that a drain can end idle ones at
// once and wait for the others.
type tracker struct {
	running sync.WaitGroup // one per connection's goroutine

	// grace is until when idle connections may still bring a request; nil until a
	// drain begins.
	grace atomic.Pointer[time.Time]

	mu    sync.Mutex
	conns map[*tracked]struct{}
	empty chan struct{} // closed once draining and nobody is left
}

// tracked is one client connection.
type tracked struct {
	conn net.Conn // what was accepted, below TLS
	// far is the upstream connection that an exchange waits for, nil without: a
	// forced end must wake its reader.
	far atomic.Pointer[upstream.Conn]

	mu   sync.Mutex
	idle bool // waits for a request
}

func (t *tracker) init() {
	t.conns = make(map[*tracked]struct{})
	t.empty = make(chan struct{})
}

func (t *tracker) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns)
}

// add returns nil when a drain has begun. Each connection needs one remove.
func (t *tracker) add(c net.Conn) *tracked {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.isDraining() {
		return nil
	}
	k := &tracked{conn: c}
	t.conns[k] = struct{}{}
	return k
}

func (t *tracker) remove(k *tracked) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, k)
	if t.isDraining() && len(t.conns) == 0 {
		close(t.empty)
	}
}

// waiting says that k waits for a request and until when it may, and sets that
// read deadline: it is what a drain shortens.
func (t *tracker) waiting(k *tracked, until time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.idle = true
	if g := t.grace.Load(); g != nil && g.Before(until) {
		until = *g
	}
	_ = k.conn.SetReadDeadline(until) // a closed connection says so on Read
}

// busy says that k does not wait any more.
func (t *tracker) busy(k *tracked) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.idle = false
}

// isDraining reports whether connections end with their exchange.
func (t *tracker) isDraining() bool { return t.grace.Load() != nil }

// drain ends idle connections at grace. The channel closes when none is left.
func (t *tracker) drain(grace time.Time) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.grace.CompareAndSwap(nil, &grace) {
		return t.empty
	}
	for k := range t.conns {
		k.mu.Lock()
		if k.idle {
			_ = k.conn.SetReadDeadline(grace)
		}
		k.mu.Unlock()
	}
	if len(t.conns) == 0 {
		close(t.empty)
	}
	return t.empty
}

// abort resets every connection. Proxy.ctx must be over before: an exchange that
// gets its upstream connection meanwhile looks at it.
func (t *tracker) abort() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range t.conns {
		relay.Abort(k.conn)
		if far := k.far.Load(); far != nil {
			_ = far.Abort()
		}
	}
}

func (t *tracker) wait() { t.running.Wait() }
