package liveness

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// PingEvery is the silence after which a server must ping. It is the least
	// that grpc-go allows one.
	PingEvery = time.Second

	// SilenceLimit is the silence that ends a connection: two and a half pings.
	SilenceLimit = 2500 * time.Millisecond

	// lateness is how late our own timer may be before the silence says more about
	// us than about the other end.
	lateness = 250 * time.Millisecond
)

// NewConn returns c with a bound on its silence: from the first byte that is heard on,
// a Read that hears nothing for [SilenceLimit] fails with os.ErrDeadlineExceeded. Until
// then who shakes hands bounds it: a server that is alive may have a queue for that.
// Deadlines that are set on it hold as well. A connection that is not being read is
// not watched.
func NewConn(c net.Conn) net.Conn { return &conn{Conn: c} }

type conn struct {
	net.Conn

	mu    sync.Mutex
	outer time.Time // the read deadline that our user has set
	heard bool      // something was read
}

// Read reads, and fails after SilenceLimit.
func (c *conn) Read(b []byte) (int, error) {
	for {
		due, err := c.watch()
		if err != nil {
			return 0, err
		}
		n, err := c.Conn.Read(b)
		if n > 0 {
			c.hear()
		}
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && c.stalled(due) {
			continue
		}
		return n, err
	}
}

// hear notes that something was heard.
func (c *conn) hear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = true
}

// watch sets the deadline of the next Read and returns when that is due.
func (c *conn) watch() (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	due := c.boundLocked(c.outer)
	return due, c.Conn.SetReadDeadline(due)
}

// boundLocked returns the user's deadline, or the end of the silence if that is sooner.
func (c *conn) boundLocked(outer time.Time) time.Time {
	due := time.Now().Add(SilenceLimit)
	if !c.heard || !outer.IsZero() && outer.Before(due) {
		return outer
	}
	return due
}

// stalled reports whether a Read that was due to fail came back much later than
// that: then this process stood still, and the other end deserves another chance.
func (c *conn) stalled(due time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	return now.Sub(due) > lateness && (c.outer.IsZero() || now.Before(c.outer))
}

// SetReadDeadline sets the user's deadline; the silence is bounded all the same.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outer = t
	return c.Conn.SetReadDeadline(c.boundLocked(t))
}

// SetDeadline sets the user's read and write deadlines.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.Conn.SetWriteDeadline(t), c.SetReadDeadline(t))
}
