package upstream

import (
	"cmp"
	"slices"
)

// Requests share a path to another cluster when HTTP/2 is negotiated with a sidecar at its
// end. A packet that is lost on the way delays all of them, and all of them end with the path: so
// they are few, small and short, on short links only, and while an instance has few paths in use the
// next request takes an idle one.

// sharesPaths reports whether requests of a may share a path through h, if who is at the other
// end agrees. a is nil for one that is opened ahead.
func (h *Host) sharesPaths(config *dialConfig, a *Attempts) bool {
	return h.key.gateway && config.protocol.IsHTTP() && (a == nil || a.streams && !a.raw)
}

// beginStreams begins HTTP/2 on a new path, if that is what it carries.
func (h *Host) beginStreams(c *Conn, a *Attempts, as speech) {
	if !h.key.gateway || a != nil && (a.raw || !a.streams) || !c.http2(h.service.dialConfig.Load(), a) {
		return
	}
	if c.most = 1; as.share && !c.program {
		c.most = maxPathStreams
	}
	c.speakHTTP2(h.service.shared.cfg.Unread, nil)
}

// goodLocked reports whether c may begin another stream, and marks one that may never again.
func (p *pool) goodLocked(c *Conn, now instant, current *dialConfig) bool {
	idleTooLong := c.leased == 0 && c.since != 0 && p.expired(c, now)
	if c.past || idleTooLong || !c.fits(current) || c.going() || c.expires != 0 && now >= c.expires || c.mux.GoingAway() || !c.trusted() {
		c.past = true
	}
	return !c.past
}

// findRoomLocked looks, for each instance, whether a request that may be a stream is to go onto a
// path in use.
func (p *pool) findRoomLocked(now instant, current *dialConfig, stream bool) {
	ejections := p.host.service.remotes.count.Load() > 0
	for _, i := range p.instances.all {
		i.room = nil
		i.shunned = ejections && p.host.service.remotes.ejected(i.who, now)
		if stream && !i.shunned && !i.retired && (len(i.idle) == 0 || len(i.busy) >= fewPaths) {
			i.room = p.roomLocked(i, now, current)
		}
	}
}

// roomLocked returns the path in use to i with the fewest requests that takes another one.
func (p *pool) roomLocked(i *instance, now instant, current *dialConfig) *Conn {
	for {
		var best *Conn
		for _, c := range i.busy {
			if !c.past && !c.occupied && c.leased < c.most && (best == nil || c.leased < best.leased) {
				best = c
			}
		}
		if best == nil || p.goodLocked(best, now, current) && !p.occupiedLocked(best, now) {
			return best
		}
	}
}

// occupiedLocked reports whether c is left to those who use it: one of them has carried much or
// runs for longer than usual, or none has ended for longer than that. It is not asked again
// until one ends.
func (p *pool) occupiedLocked(c *Conn, now instant) bool {
	l, usual := c.mux.Load(), cmp.Or(p.queue.took, maxPatience)
	c.occupied = l.Carried > maxPathCarried ||
		now.since(p.shared.at(l.Since)) > max(pathLasting*usual, minPathLasting) && !l.Since.IsZero() ||
		now.since(c.progress) > max(pathSilent*usual, minPathSilent)
	return c.occupied
}

// wantMoreLocked reports whether the caller is to widen: requests share a path to i although
// there are few.
func (p *pool) wantMoreLocked(i *instance) bool {
	if p.closed || p.queue.widens || len(i.idle) > 0 || len(i.busy) >= fewPaths {
		return false
	}
	p.queue.widens = true
	return true
}

// release ends a request's use of a path with streams, which it has had since began. ok says that
// the exchange ended in order. When nothing has since then, the path takes no other.
func (p *pool) release(c *Conn, began, now instant, ok bool) {
	p.mu.Lock()
	c.leased--
	c.occupied = false
	i := c.instance
	switch {
	case ok:
		c.progress = now
		p.queue.ended(now.since(began))
	case c.progress <= began:
		c.past = true
	}
	good := p.goodLocked(c, now, p.host.service.dialConfig.Load())
	if c.leased > 0 {
		i.joined--
		if good && !p.closed {
			p.handLocked(c, i, now)
		}
		p.mu.Unlock()
		return
	}
	if i != nil {
		i.busy = slices.DeleteFunc(i.busy, func(x *Conn) bool { return x == c })
	}
	kept := good && p.keepLocked(c, now)
	p.mu.Unlock()
	if !kept {
		_ = c.Close()
	}
}

// refused ends the use of a path on which no stream could be opened; full says that it has as many
// as the other end takes.
func (p *pool) refused(c *Conn, full bool) {
	p.mu.Lock()
	if c.past = c.past || !full || c.leased == 1; full {
		c.most = c.leased - 1
	}
	p.mu.Unlock()
	p.release(c, 0, p.shared.now(), false)
}
