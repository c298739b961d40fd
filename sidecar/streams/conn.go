package streams

import (
	"cmp"
	"context"
	"net"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http2"
)

// Config says how a connection is used. The zero value is good.
type Config struct {
	// Idle ends the connection when it has had no stream for so long; 0: never.
	Idle time.Duration
	// MaxStreams bounds the streams that a client may have open; 0: http2.DefaultMaxStreams.
	// That bounds what it can make us hold as well: see package http2, Flow control.
	MaxStreams uint32
	// Unread bounds what all connections that it is given to hold together; nil: nothing does.
	Unread *Unread
	// ExtendedConnect lets a client open streams of other protocols (RFC 8441).
	ExtendedConnect bool
	// Closed is called once, when the connection is gone. It must not wait; nil: nobody asks.
	Closed func()
}

// Conn is a shared connection. Its methods may be called concurrently. [Conn.Serve] waits for
// all of its goroutines, or [Conn.Close].
type Conn struct {
	nc     net.Conn
	cfg    Config
	client bool
	done   chan struct{} // closed when the connection is gone
	ready  chan struct{} // closed when the other end's SETTINGS are here
	owned  sync.WaitGroup

	reader reader
	writer writer
	server server // on the server's side

	mu      sync.Mutex
	engine  *http2.Conn
	streams streamSet
	out     sendQueue
	window  fullWindow
	held    heldBytes
	upkeep  upkeep
	greeted bool // the other end's SETTINGS are here

	// How it ends.
	goingAway  bool // no new streams
	draining   bool // and we have said so, at drainedAt
	drainedAt  time.Time
	err        error     // why it ends: its streams are broken, and what is queued is written
	unwritable error     // why nothing can be written any more
	endBy      time.Time // when it is over, once err was set and all is said
	closed     bool
	quietSince time.Time // there has been no stream
	told       sync.Cond // a stream's onEnd has returned
}

// Client takes over nc, on which nothing was said yet, and begins to read.
func Client(nc net.Conn, cfg Config) *Conn {
	c := newConn(nc, cfg, http2.NewClient(settings(cfg)))
	c.client = true
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.put(c.engine.Start(c.out.buffer()))
	c.writeElsewhereLocked()
	c.owned.Go(c.reader.run)
	return c
}

// Server takes over nc, on which the client says its preface.
func Server(nc net.Conn, cfg Config) *Conn { return newConn(nc, cfg, http2.NewServer(settings(cfg))) }

func settings(cfg Config) http2.Settings {
	return http2.Settings{MaxStreams: cfg.MaxStreams, ExtendedConnect: cfg.ExtendedConnect}
}

func newConn(nc net.Conn, cfg Config, engine *http2.Conn) *Conn {
	cfg.MaxStreams = cmp.Or(cfg.MaxStreams, http2.DefaultMaxStreams)
	now := time.Now()
	c := &Conn{nc: nc, cfg: cfg, engine: engine, done: make(chan struct{}), ready: make(chan struct{}), quietSince: now}
	c.reader.conn, c.writer.conn, c.server.conn = c, c, c
	c.held.bound = cfg.Unread
	c.told.L = &c.mu
	c.upkeep = upkeep{began: now, last: now, ticking: true}
	c.upkeep.timer = time.AfterFunc(tick, c.onTick)
	cfg.Unread.add(c)
	return c
}

// Open returns a new stream. The other end learns of it with its head. [ErrFull] and
// [ErrGoingAway] say that another connection is needed.
func (c *Conn) Open() (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return nil, &ConnError{c.err}
	case c.goingAway:
		return nil, ErrGoingAway
	case len(c.streams.using) >= c.roomLocked():
		return nil, ErrFull
	}
	s := c.streams.reuse()
	if s == nil {
		s = newStream(c)
	}
	s.opened = time.Now()
	c.useLocked(s)
	return s, nil
}

// roomLocked returns how many streams may be open at a time.
func (c *Conn) roomLocked() int { return min(http2.DefaultMaxStreams, c.engine.Peer().MaxStreams()) }

// Streams returns how many streams are in use.
func (c *Conn) Streams() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams.using)
}

// GoingAway reports whether the connection takes no new streams.
func (c *Conn) GoingAway() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.goingAway || c.err != nil
}

// Ready waits for the other end's SETTINGS: before, it is not known what it takes. Its error
// is why there will be none.
func (c *Conn) Ready(ctx context.Context) error {
	select {
	case <-c.ready:
		return nil
	case <-c.done:
		c.mu.Lock()
		defer c.mu.Unlock()
		return &ConnError{c.err}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Limited reports whether streams have waited for the connection to take their payload for
// so long that another connection would help: for room in the queue or for its window.
func (c *Conn) Limited() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	return c.out.turns.limit(now) || c.window.limits(now)
}

// ExtendedConnect reports whether the server at the other end takes streams of other
// protocols (RFC 8441). It is not known before the server's SETTINGS are here.
func (c *Conn) ExtendedConnect() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.engine.Peer().ExtendedConnect()
}

// useLocked counts s among the streams in use.
func (c *Conn) useLocked(s *Stream) {
	c.streams.use(s)
	c.upkeep.start()
}
