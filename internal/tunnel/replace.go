package tunnel

import "time"

// A connection is replaced by a new one before its certificates expire, when its
// large packets are lost, and when larger ones are to be tried again. The end that
// dialled it dials the new one; then the old one is retired: streams go by the new
// one, those on the old one run on, and it is closed when they have ended.

// expiring reports that a certificate expires soon, so that streams should rather
// go by another connection.
func (c *conn) expiring(now time.Time) bool { return now.After(c.expires.Add(-renewLead)) }

// renewable reports that our certificate of this connection expires soon and that
// we have a new one, which is worth a new connection.
func (c *conn) renewable(now time.Time) bool {
	own := c.node.cfg.Identity
	return c.expiring(now) && c.ownUntil.Equal(c.expires) && own.NotAfter().After(c.expires.Add(min(renewLead, own.Lifetime()/4)))
}

// replaceable reports that this end should dial a replacement.
func (c *conn) replaceable(now time.Time) bool {
	switch {
	case c.replace.Load():
		return c.dialled
	case c.dialled:
		return c.renewable(now)
	}
	// The peer was asked to, and did not.
	return c.renewable(now) && now.After(c.expires.Add(-renewLead/2))
}

// current reports that the connection is in use and needs no replacement.
func (c *conn) current(now time.Time) bool {
	return !c.leaving.Load() && !c.retired.Load() && !c.replaceable(now)
}

// askReplacement has the connection replaced by the end that dialled it.
func (c *conn) askReplacement() {
	c.replace.Store(true)
	if !c.dialled {
		c.sendSoon(frameReplace)
	}
}

// retire opens no more streams on the connection, and tells the peer.
func (c *conn) retire() {
	if !c.retired.Swap(true) {
		c.sendSoon(frameRetire)
	}
}

// retireLocked retires the peer's connections whose replacements are there.
func (p *peer) retireLocked(wanted int, now time.Time) {
	if p.current(now) >= wanted {
		for _, c := range p.conns {
			if c.replaceable(now) {
				c.retire()
			}
		}
	}
	old := 0
	for i := len(p.conns) - 1; i >= 0; i-- { // the youngest first
		if c := p.conns[i]; c.retired.Load() {
			if old++; old > maxRetired {
				c.close(codeReplaced, "it has been replaced, and too many older ones still have streams")
			}
		}
	}
}

// checkRenewal asks the peer for a replacement when only this end knows that one
// is due, and has a retired connection closed whose streams have ended.
func (c *conn) checkRenewal(now time.Time) {
	if !c.dialled && !c.replace.Load() && c.renewable(now) {
		c.askReplacement()
	}
	switch {
	case !c.retired.Load():
	case c.streams.Load() > 0:
		c.idleSince = time.Time{}
		if c.saidDone { // one was under way from the peer
			c.saidDone = false
			c.sendSoon(frameRetire)
		}
	case c.idleSince.IsZero():
		c.idleSince = now
	case now.Sub(c.idleSince) < retireQuiet:
	case c.peerDone.Load():
		c.close(codeReplaced, "")
	case !c.saidDone:
		c.saidDone = true
		c.sendSoon(frameDone)
	}
}

// vouched reports that a connection may outlive its certificates: the same process
// of the peer has another connection, under certificates of both ends that are
// valid. Streams are not cut because a certificate was renewed under them.
func (t *table) vouched(c *conn, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, other := range t.peerLocked(c.gateway).conns {
		if other != c && other.incarnation == c.incarnation && now.Before(other.expires) {
			c.retire()
			return true
		}
	}
	return false
}

// reduced records that large packets seem to be lost, and has the connection replaced,
// with those whose packets are as large.
func (t *table) reduced(c *conn, now time.Time) {
	size := c.maxDatagram() + datagramOverhead
	t.log.Warn("large packets seem to be lost between this gateway and another: their connections are replaced by some of smaller packets", "gateway", c.gateway, "peer_addr", c.quic.RemoteAddr(), "bytes", size)
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peerLocked(c.gateway)
	for _, other := range p.conns {
		if !other.retired.Load() && !other.replace.Load() && other.maxDatagram()+datagramOverhead+sizeSlack >= size {
			other.askReplacement()
		}
	}
	p.reductions++
	p.reducedFrom, p.reducedAt = max(size, p.reducedFrom), now
	t.changedLocked()
}

// sizeLocked brings the packet size up to date. Packets that were too large are
// tried again after raiseEvery, on new connections: quic-go has finished its search
// on the old ones. It reports
// whether anything else has changed.
func (t *table) sizeLocked(p *peer, now time.Time) bool {
	size := 0
	for _, c := range p.conns {
		if c.retired.Load() || c.narrow.Load() {
			continue
		}
		if s := c.maxDatagram() + datagramOverhead; size == 0 || s < size {
			size = s
		}
	}
	if size != 0 {
		p.packetSize = size
	}
	switch {
	case p.reducedFrom == 0 || size == 0:
	case size+sizeSlack >= p.reducedFrom && now.Sub(p.reducedAt) >= minReduced:
		t.log.Info("large packets pass again on the way to the gateway", "gateway", p.gateway, "bytes", size)
		p.reducedFrom = 0
		return true
	case now.Sub(p.reducedAt) >= raiseEvery:
		p.reducedAt = now
		for _, c := range p.conns {
			if !c.retired.Load() {
				c.askReplacement()
			}
		}
		return true
	}
	return false
}
