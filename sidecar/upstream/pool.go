package upstream

import (
	"sync"
	"time"
)

// pool holds a host's idle connections, the latest last: it is used first, so
// that those which are not needed grow old.
type pool struct {
	shared   *shared
	interval time.Duration // from sweep to sweep
	reuse    reuseAge      // of connections to programs

	mu     sync.Mutex
	idle   []*Conn
	closed bool
	timer  *time.Timer // runs sweep while there are idle connections
	armed  bool
}

func (p *pool) init(shared *shared, gateway bool) {
	p.shared = shared
	p.interval = shared.idleTimeout / sweepsPerTimeout
	if gateway {
		p.interval = min(p.interval, goodbyeSweep)
	}
	p.timer = time.AfterFunc(time.Hour, p.sweep)
	p.timer.Stop()
}

// take returns the latest idle connection that is still good, or nil. For a request
// that can be sent once only its socket is looked at, however short it was idle, and it
// is none that the program may be about to close.
func (p *pool) take(now instant, current *dialConfig, once bool) *Conn {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.idle[n-1]
		if once && c.program && !p.reuse.allows(now.since(c.since)) {
			p.mu.Unlock()
			return nil // it stays: others may use it, and it tells when it closes
		}
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		c.idle = false
		p.mu.Unlock()
		if c.fits(current) && !c.going() && !p.expired(c, now) && c.trusted() && (!once && now.since(c.since) < trustIdle || p.quiet(c, now)) {
			return c
		}
		_ = c.Close()
	}
}

// put keeps c and reports whether it did; otherwise it is the caller's to close.
func (p *pool) put(c *Conn, now instant) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.idle {
		return true // it is here already: closing it would break another's
	}
	if p.closed || len(p.idle) >= maxIdlePerHost {
		return false
	}
	c.idle, c.since = true, now
	p.idle = append(p.idle, c)
	if !p.armed {
		p.armed = true
		p.timer.Reset(p.interval)
	}
	return true
}

func (p *pool) expired(c *Conn, now instant) bool {
	age := now.since(c.since)
	return age >= p.shared.idleTimeout || c.keepFor > 0 && age >= c.keepFor || c.expires != 0 && now >= c.expires
}

// quiet looks at an idle connection, and learns from it when a program closes its own.
func (p *pool) quiet(c *Conn, now instant) bool {
	quiet, age := c.alive(), now.since(c.since)
	switch {
	case !c.program:
	case quiet:
		p.reuse.openAt(age)
	default:
		p.reuse.closedAt(age)
	}
	return quiet
}

// closeUnfit closes idle connections that do not fit config.
func (p *pool) closeUnfit(current *dialConfig) {
	p.closeIf(func(c *Conn) bool { return !c.fits(current) })
}

// sweep closes connections that nobody used for the idle timeout, or that died, or
// to who is not trusted any more, or on which a gateway said goodbye.
// It is called by the timer, on a goroutine that lasts as long as the call.
func (p *pool) sweep() {
	now := p.shared.now()
	p.closeIf(func(c *Conn) bool { return p.expired(c, now) || !c.trusted() || c.going() || !p.quiet(c, now) })
}

// close closes what is idle, and what is put from now on is not kept.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.closeIf(func(*Conn) bool { return true })
}

// closeIf closes the idle connections that are bad and sees to the timer.
func (p *pool) closeIf(bad func(*Conn) bool) {
	var dropped []*Conn
	p.mu.Lock()
	kept := p.idle[:0]
	for _, c := range p.idle {
		if bad(c) {
			dropped = append(dropped, c)
		} else {
			kept = append(kept, c)
		}
	}
	clear(p.idle[len(kept):])
	p.idle = kept
	if p.armed = len(kept) > 0; p.armed {
		p.timer.Reset(p.interval)
	} else {
		p.timer.Stop()
	}
	p.mu.Unlock()
	for _, c := range dropped { // outside of the lock: closing TLS writes
		_ = c.Close()
	}
}

func (p *pool) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle)
}
