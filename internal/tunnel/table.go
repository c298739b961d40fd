package tunnel

import (
	"cmp"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/audit"
	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// table holds the peers and their connections. Its methods may be called by any
// goroutine.
type table struct {
	connections int // wanted to each peer
	targets     *targets
	halfOpen    *halfOpen // is told where gateways are
	log         *slog.Logger
	audit       *audit.Log
	metrics     *metrics

	drained state.Notify          // a connection, or the last stream of one, has ended
	changes state.Store[struct{}] // set when list is past

	mu          sync.Mutex
	draining    bool // Shutdown was called: admit no connections
	closing     bool // all connections are being closed
	peers       map[mesh.GatewayID]*peer
	duplicate   string // what was said last of another gateway with this one's name, and when
	duplicateAt time.Time
}

// drain admits no more connections and reports whether it did so before.
func (t *table) drain() (before bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, t.draining = t.draining, true
	return before
}

// close admits no more connections, as all are being closed, and reports whether
// the table drained.
func (t *table) close() (drained bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closing = true
	return t.draining
}

// tryAdmit admits c unless connections of another incarnation are in the way, which it
// returns then.
func (t *table) tryAdmit(c *conn) (incumbents []*conn, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closing {
		return nil, &closeError{code: codeStopped, reason: "the gateway stops"}
	}
	if t.draining {
		return nil, &closeError{code: codeLeaving, reason: "the gateway leaves"}
	}
	p := t.peerLocked(c.gateway)
	own, all, now := 0, 0, time.Now()
	for _, other := range p.conns {
		if other.incarnation != c.incarnation {
			incumbents = append(incumbents, other)
		}
		if other.retired.Load() {
			continue
		}
		all++
		if other.dialled && other.current(now) {
			own++
		}
	}
	switch {
	case len(incumbents) > 0:
		return incumbents, nil
	case all >= maxConnections, c.dialled && own >= t.connections:
		return nil, &closeError{code: codeSurplus, reason: "there are enough connections already"}
	}
	c.use = &p.use
	c.use.extend(busyFor) // whoever is new is used soon, and the size of packets is found
	p.conns = append(p.conns, c)
	p.left, p.forgotten, p.lastErr, p.addr, p.founding = false, false, "", c.quic.RemoteAddr().String(), c.founding
	p.host = limit.SourceOf(c.quic.RemoteAddr())
	if p.refreshLocked(now) {
		t.log.Info("tunnel up", "gateway", c.gateway, "peer_addr", p.addr, "dialled", c.dialled)
		t.audit.Add(c.event(audit.Granted, ""))
	}
	if !c.dialled {
		t.targets.redialLocked(c.gateway)
	}
	t.targets.heardLocked(c.quic.RemoteAddr(), c.gateway)
	p.retireLocked(t.connections, now)
	t.changedLocked()
	return nil, nil
}

// peerLocked returns the record of a gateway, made when it is new. Its since stays
// zero until its first connection.
func (t *table) peerLocked(gw mesh.GatewayID) *peer {
	p, ok := t.peers[gw]
	if !ok {
		p = &peer{gateway: gw, state: Down}
		t.peers[gw] = p
	}
	return p
}

// notifyChanged is changedLocked for who does not hold the lock.
func (t *table) notifyChanged() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changedLocked()
}

// changedLocked tells everyone who watches peers or dials targets.
func (t *table) changedLocked() {
	t.rememberHostsLocked()
	t.changes.Set(struct{}{})
	t.targets.lookAgainLocked(nil)
}

// list is [Node.Peers].
func (t *table) list() ([]Peer, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Peer, 0, len(t.peers))
	for _, p := range t.peers {
		if p.since.IsZero() || p.forgotten {
			continue // only dialled so far, or gone
		}
		p.refreshLocked(time.Now())
		streams := int64(0)
		for _, c := range p.conns {
			streams += c.streams.Load()
		}
		list = append(list, Peer{
			Gateway: p.gateway, Addr: p.addr, State: p.state, Left: p.left, RTT: p.rtt,
			Connections: len(p.conns), Streams: int(streams), Since: p.since, LastError: p.lastErr, Founding: p.founding,
			PacketSize: p.packetSize, MTUReduced: p.reducedFrom > 0,
		})
	}
	slices.SortFunc(list, func(a, b Peer) int { return a.Gateway.Compare(b.Gateway) })
	_, past := t.changes.Snapshot()
	return list, past
}

// forget is [Node.Forget].
func (t *table) forget(gw mesh.GatewayID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.peers[gw]
	if !ok || p.usable() > 0 {
		return
	}
	t.targets.forgetLocked(gw)
	p.forgotten = true // a dial may be on its way, or a connection drain; a sweep deletes it
	t.changedLocked()
}

// rtt is [Node.RTT].
func (t *table) rtt(gw mesh.GatewayID) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.peers[gw]
	if !ok {
		return 0
	}
	p.refreshLocked(time.Now())
	return p.rtt
}

// conns returns all admitted connections.
func (t *table) conns() []*conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*conn
	for _, p := range t.peers {
		all = append(all, p.conns...)
	}
	return all
}

// choices returns the connections that a stream may be opened on, best first.
func (t *table) choices(to mesh.GatewayID) []*conn {
	t.mu.Lock()
	p, ok := t.peers[to]
	var all []*conn
	if ok {
		all = slices.Clone(p.conns)
	}
	t.mu.Unlock()
	all = slices.DeleteFunc(all, func(c *conn) bool { return c.leaving.Load() || c.retired.Load() })
	if len(all) < 2 {
		return all
	}
	now := time.Now()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	doubtful := func(c *conn) int {
		switch {
		case c.narrow.Load():
			return 2
		case c.quiet.Load() || c.replace.Load() || c.expiring(now):
			return 1
		}
		return 0
	}
	slices.SortStableFunc(all, func(a, b *conn) int {
		return cmp.Or(doubtful(a)-doubtful(b), cmp.Compare(a.streams.Load(), b.streams.Load()))
	})
	return all
}

// peerLeaves notes that the peer of c said so.
func (t *table) peerLeaves(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peerLocked(c.gateway)
	if !slices.Contains(p.conns, c) || p.left {
		return
	}
	p.left = true
	p.lastErr = "the gateway leaves"
	p.refreshLocked(time.Now())
	t.log.Info("gateway leaves", "gateway", c.gateway)
	t.changedLocked()
}

// remove takes a connection that ended, or is about to, out of the table. Only the
// first call for a connection does anything.
func (t *table) remove(c *conn, why error) {
	why, label := connError(why)
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peerLocked(c.gateway)
	i := slices.Index(p.conns, c)
	if i < 0 {
		return
	}
	p.conns = slices.Delete(slices.Clone(p.conns), i, i+1)
	p.past.addLocked(c)
	closed, _ := errors.AsType[*closeError](why)
	if closed != nil {
		t.closedLocked(closed)
	}
	if (closed == nil || closed.code != codeReplaced) && !c.retired.Load() { // else another was there before
		p.lastErr = why.Error()
	}
	if label == labelReset {
		for _, sibling := range p.conns {
			sibling.heartbeat() // most likely dead too: ask now
		}
	}
	t.metrics.closed.WithLabelValues(label).Inc()
	if closed != nil && closed.remote && (closed.code == codeLeaving || closed.code == codeBye) && !c.retired.Load() {
		p.left = true
	}
	down := p.refreshLocked(time.Now())
	if down {
		t.audit.Add(c.event(audit.Ended, why.Error()))
	}
	if down && !p.left && !t.closing {
		t.log.Warn("tunnel down", "gateway", c.gateway, "err", why)
	} else {
		t.log.Debug("connection closed", "gateway", c.gateway, "err", why)
	}
	t.changedLocked()
	t.drained.Notify()
}

// closedLocked notes what a connection's end says of this gateway itself.
func (t *table) closedLocked(why *closeError) {
	if why.remote && why.code == codeDuplicate {
		t.duplicate, t.duplicateAt = why.reason, time.Now()
	}
}

// refusedAs is [Node.Duplicate].
func (t *table) refusedAs() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.duplicateAt) > 2*maxBackoff { // it was not refused at the next dial
		return ""
	}
	for _, p := range t.peers {
		if p.usable() > 0 {
			return ""
		}
	}
	return t.duplicate
}

// sweep tells watchers of round-trip times that changed by a tenth and a
// millisecond and of packet sizes, retires what has been replaced, notifies targets
// whose connections need a replacement, and forgets peers that are long gone.
func (t *table) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := false
	wanted := map[mesh.GatewayID]bool{}
	for _, target := range t.targets.running {
		wanted[target.gatewayLocked()] = true
	}
	for gw, p := range maps.Clone(t.peers) {
		if p.refreshLocked(now) {
			changed = true
		}
		if p.state == Up {
			if diff := (p.rtt - p.toldRTT).Abs(); diff > time.Millisecond && diff > p.toldRTT/10 {
				p.toldRTT = p.rtt
				changed = true
			}
			if p.current(now) < p.usable() {
				changed = true
			}
			p.retireLocked(t.connections, now)
			changed = t.sizeLocked(p, now) || changed
		} else if len(p.conns) == 0 && p.dialling == 0 && !wanted[gw] && (p.forgotten || now.Sub(p.since) > forgetAfter) {
			delete(t.peers, gw)
			changed = true
		}
	}
	if changed {
		t.changedLocked()
	}
}

// openStreams counts the streams that their users have not ended.
func (t *table) openStreams() int64 {
	sum := int64(0)
	for _, c := range t.conns() {
		sum += c.streams.Load()
	}
	return sum
}
