package upstream

import (
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
)

// pool holds a host's idle connections, by the instance that they lead to: behind a
// gateway one may have any number, an endpoint of our own cluster is one. Requests
// are spread over the instances by weight (instances.go); of one instance's
// connections the latest is used first, so that those which are not needed grow old.
type pool struct {
	host     *Host
	shared   *shared
	interval time.Duration // from sweep to sweep
	reuse    reuseAge      // of connections to programs

	mu        sync.Mutex
	instances instances
	idle      int // connections, of all instances
	closed    bool
	timer     *time.Timer // runs sweep while there are idle connections, or shared paths
	armed     bool
	renewal   renewal
	queue     queue
}

func (p *pool) init(h *Host) {
	p.host, p.shared = h, h.service.shared
	p.interval = p.shared.idleTimeout / sweepsPerTimeout
	if h.key.gateway {
		p.interval = min(p.interval, goodbyeSweep)
	}
	p.timer = time.AfterFunc(time.Hour, p.sweep)
	p.timer.Stop()
}

// take returns an idle connection that is still good or, for a request that may be a stream,
// one in use that takes it; or nil. For a request that can
// be sent once only its socket is looked at, however short it was idle, and it is none
// that the program may be about to close.
func (p *pool) take(now instant, current *dialConfig, once, stream bool) *Conn {
	for {
		p.mu.Lock()
		p.findRoomLocked(now, current, stream)
		i, starved := p.instances.next()
		if i == nil {
			p.mu.Unlock()
			return nil
		}
		if c := i.room; c != nil {
			p.useLocked(c, i, now)
			want, whole := p.wantLocked(now, starved)
			widen := p.wantMoreLocked(i)
			p.mu.Unlock()
			if want {
				p.renew(whole)
			}
			if widen {
				p.widen(i.who)
			}
			return c
		}
		n := len(i.idle) - 1
		c := i.idle[n]
		if c.mux != nil && !stream || once && c.program && !p.reuse.allows(now.since(c.since)) {
			p.mu.Unlock()
			return nil // it stays: others may use it, and it tells when it closes
		}
		i.idle[n] = nil
		i.idle = i.idle[:n]
		p.idle--
		c.idle = false
		good := c.mux != nil && p.goodLocked(c, now, current)
		if good || c.mux == nil {
			p.useLocked(c, i, now)
		}
		want, whole := p.wantLocked(now, starved)
		p.mu.Unlock()
		if want {
			p.renew(whole)
		}
		if c.mux != nil {
			if good {
				return c
			}
			_ = c.Close()
			continue
		}
		if c.fits(current) && !c.going() && !p.expired(c, now) && c.trusted() && (!once && now.since(c.since) < trustIdle || p.quiet(c, now)) {
			return c
		}
		i.active.Add(-1)
		_ = c.Close()
	}
}

// join counts c, which has just been opened for a request, among the connections to
// its instance; not when that is to have it for itself, whatever it is.
func (p *pool) join(c *Conn, now instant, counted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !counted {
		c.leased = 1
		return
	}
	i := p.instances.of(c.remote())
	i.opened(c, now)
	p.useLocked(c, i, now)
	p.handLocked(c, i, now)
}

// useLocked notes that a request has c from now on.
func (p *pool) useLocked(c *Conn, i *instance, now instant) {
	p.instances.charge(i)
	if c.leased++; c.leased > 1 && c.mux != nil {
		i.joined++
		return
	}
	c.instance, c.taken, c.progress, c.Reused = i, now, now, c.since != 0
	if c.most > 1 {
		i.busy = append(i.busy, c)
		p.armLocked()
	}
}

// armLocked sees that the pool is swept.
func (p *pool) armLocked() {
	if !p.armed {
		p.armed = true
		p.timer.Reset(p.interval)
	}
}

// put keeps c and reports whether it did; otherwise it is the caller's to close.
func (p *pool) put(c *Conn, now instant) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.idle {
		return true // it is here already: closing it would break another's
	}
	if c.taken != 0 {
		p.queue.ended(now.since(c.taken))
		c.taken = 0
	}
	c.leased = 0
	return p.keepLocked(c, now)
}

// keepLocked keeps c, which nobody uses, and reports whether it did.
func (p *pool) keepLocked(c *Conn, now instant) bool {
	if p.closed || p.idle >= maxIdlePerHost {
		return false
	}
	i := p.instances.of(c.remote())
	if i.retired {
		return false
	}
	if p.handLocked(c, i, now) {
		return true
	}
	c.instance = i
	c.idle, c.since = true, now
	i.idle = append(i.idle, c)
	p.idle++
	p.armLocked()
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
	case c.saysGoodbye(): // that is the gateway's doing
	default:
		p.reuse.closedAt(age)
	}
	return quiet
}

// closeUnfit closes idle connections that do not fit config.
func (p *pool) closeUnfit(current *dialConfig) {
	p.closeIf(func(c *Conn) bool { return !c.fits(current) })
}

// closeTo closes idle connections to one instance behind a gateway.
func (p *pool) closeTo(who connect.Instance) {
	p.closeIf(func(c *Conn) bool { return c.remote() == who })
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

// closeIf closes the idle connections that are bad and sees to the timer, and to the
// certificates of the paths in use.
func (p *pool) closeIf(bad func(*Conn) bool) {
	var dropped, busy []*Conn
	p.mu.Lock()
	for _, i := range p.instances.all {
		i.idle = slices.DeleteFunc(i.idle, func(c *Conn) bool {
			if bad(c) {
				dropped = append(dropped, c)
				return true
			}
			return false
		})
		busy = append(busy, i.busy...)
	}
	p.idle -= len(dropped)
	p.instances.forgetUnused()
	if p.armed = p.idle+len(busy) > 0; p.armed {
		p.timer.Reset(p.interval)
	} else {
		p.timer.Stop()
	}
	p.mu.Unlock()
	for _, c := range dropped { // outside of the lock: closing TLS writes
		_ = c.Close()
	}
	for _, c := range busy {
		c.Refresh()
	}
}

// inUse returns how many of the paths that several requests may use are in use, and by how many.
func (p *pool) inUse() (paths, streams int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range p.instances.all {
		paths += len(i.busy)
		for _, c := range i.busy {
			streams += c.leased
		}
	}
	return paths, streams
}

func (p *pool) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.idle
}
