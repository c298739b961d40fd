package streams

import (
	"errors"
	"net"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/liveness"
)

var (
	errNoPreface = errors.New("the other end did not begin HTTP/2 in time")
	errMachine   = errors.New("the machine at the other end acknowledges nothing any more")
)

// upkeep is when a connection is looked after: once a second while there is something to do. The
// connection's lock guards it.
type upkeep struct {
	timer   *time.Timer
	ticking bool
	began   time.Time // the connection
	last    time.Time // when elapsed was asked
	heard   bool      // something since the last tick
	holding bool      // the reader has a large buffer
}

// start has the next tick come, if none will.
func (u *upkeep) start() {
	if !u.ticking {
		u.ticking = true
		u.timer.Reset(tick)
	}
}

// elapsed returns the time since it was asked last.
func (u *upkeep) elapsed(now time.Time) time.Duration {
	d := now.Sub(u.last)
	u.last = now
	return d
}

// onTick looks, once a second while there is something to look after, what a connection
// does not need any more, and whether it has ended.
func (c *Conn) onTick() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	now := time.Now()
	c.engine.Elapsed(c.upkeep.elapsed(now))
	if c.streams.trim() {
		c.engine.Trim()
	}
	if c.err == nil && c.upkeep.holding && !c.upkeep.heard {
		_ = c.nc.SetReadDeadline(now) // the reader gives its buffer back
	}
	c.upkeep.heard = false
	stuck := !c.writer.since.IsZero() && now.Sub(c.writer.since) > tick
	late := !c.greeted && now.Sub(c.upkeep.began) >= prefaceTimeout
	idle := c.cfg.Idle > 0 && c.greeted && len(c.streams.using) == 0 && now.Sub(c.quietSince) >= c.cfg.Idle
	over := !c.endBy.IsZero() && now.Sub(c.endBy) > goodbyeTimeout
	if c.draining && len(c.streams.using) == 0 && now.Sub(c.drainedAt) >= drainTimeout && now.Sub(c.quietSince) >= drainTimeout {
		c.finishLocked(errClosed) // it does not say that it knows
	}
	c.againLocked(now)
	c.mu.Unlock()
	c.cfg.Unread.relieve()
	switch {
	case over:
		c.fail(errClosed)
	case late:
		c.fail(errNoPreface)
	case stuck && liveness.MachineGone(below(c.nc)):
		c.fail(errMachine)
	case idle:
		c.Drain()
	}
}

// againLocked sets the timer for the next tick, if there will be something to do.
func (c *Conn) againLocked(now time.Time) {
	u := &c.upkeep
	u.ticking = !c.greeted || len(c.streams.using)+len(c.streams.free) > 0 || u.holding || c.err != nil || c.draining
	switch {
	case u.ticking:
		u.timer.Reset(tick)
	case c.cfg.Idle > 0:
		u.timer.Reset(max(c.cfg.Idle-now.Sub(c.quietSince), tick))
	}
}

// below returns the connection that carries nc's TLS, or nc.
func below(nc net.Conn) net.Conn {
	for {
		over, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nc
		}
		nc = over.NetConn()
	}
}
