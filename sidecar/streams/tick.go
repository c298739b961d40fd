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

// onTick looks, once a second while there is something to look after, what a connection
// does not need any more, and whether it has ended.
func (c *Conn) onTick() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	now := time.Now()
	c.engine.Elapsed(now.Sub(c.tickedAt))
	c.tickedAt = now
	c.trimLocked()
	if c.err == nil && c.holding && !c.heard {
		_ = c.nc.SetReadDeadline(now) // the reader gives its buffer back
	}
	c.heard = false
	stuck := !c.writeSince.IsZero() && now.Sub(c.writeSince) > tick
	late := !c.greeted && now.Sub(c.began) >= prefaceTimeout
	idle := c.cfg.Idle > 0 && c.greeted && len(c.using) == 0 && now.Sub(c.quietSince) >= c.cfg.Idle
	over := !c.endBy.IsZero() && now.Sub(c.endBy) > goodbyeTimeout
	if c.draining && len(c.using) == 0 && now.Sub(c.drainedAt) >= drainTimeout && now.Sub(c.quietSince) >= drainTimeout {
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
	c.ticking = !c.greeted || len(c.using)+len(c.free) > 0 || c.holding || c.err != nil || c.draining
	switch {
	case c.ticking:
		c.timer.Reset(tick)
	case c.cfg.Idle > 0:
		c.timer.Reset(max(c.cfg.Idle-now.Sub(c.quietSince), tick))
	}
}

// trimLocked lets go of streams that were not needed since the last tick.
func (c *Conn) trimLocked() {
	for len(c.free) > max(0, c.peak-len(c.using)) {
		c.reuseLocked().stopLocked()
	}
	if c.peak == 0 {
		c.engine.Trim()
	}
	c.peak = len(c.using)
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
