package tunnel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// State says whether a peer can be reached.
type State string

// The states of a peer.
const (
	Up   State = "up"   // at least one live connection
	Down State = "down" // none
)

// Peer is what the node knows of another gateway that it had a tunnel to.
type Peer struct {
	Gateway     mesh.GatewayID
	Addr        string // where its packets last came from
	State       State
	Left        bool          // it said that it leaves, and has not come back
	RTT         time.Duration // smoothed, of the best connection; the last known while down
	Connections int
	Streams     int       // open ones
	Since       time.Time // of State
	LastError   string
	Founding    identity.Founding // of its cluster, as its last certificate said
	PacketSize  int               // bytes of UDP payload, of the connection with the smallest; the last known while down
	MTUReduced  bool              // larger packets passed once, and were lost later
}

// peer is the mutable side of a [Peer]. Guarded by Node.mu.
type peer struct {
	gateway   mesh.GatewayID
	conns     []*conn // admitted and not ended
	dialling  int     // targets that dial it right now
	state     State
	left      bool
	since     time.Time
	addr      string
	lastErr   string
	founding  identity.Founding
	forgotten bool // and not met since
	rtt       time.Duration
	toldRTT   time.Duration // rtt when watchers were last told
	past      totals        // of connections that have ended

	packetSize  int
	reducedFrom int       // the size of packets that were lost; 0: none are
	reducedAt   time.Time // when they were lost, or tried again
	reductions  uint64
}

// usable counts the connections that streams can be opened on.
func (p *peer) usable() int {
	n := 0
	for _, c := range p.conns {
		if !c.leaving.Load() && !c.retired.Load() {
			n++
		}
	}
	return n
}

// current counts the connections that need no replacement.
func (p *peer) current(now time.Time) int {
	n := 0
	for _, c := range p.conns {
		if c.current(now) {
			n++
		}
	}
	return n
}

// refreshLocked brings state and rtt up to date and reports a change of state.
func (p *peer) refreshLocked(now time.Time) bool {
	best := time.Duration(0)
	for _, c := range p.conns {
		if rtt := c.quic.ConnectionStats().SmoothedRTT; rtt > 0 && (best == 0 || rtt < best) {
			best = rtt
		}
	}
	if best > 0 {
		p.rtt = best
	}
	state := Down
	if p.usable() > 0 {
		state = Up
	}
	if state == p.state {
		return false
	}
	p.state, p.since = state, now
	return true
}

// peerLocked returns the record of a gateway, made when it is new. Its since stays
// zero until its first connection.
func (n *Node) peerLocked(gw mesh.GatewayID) *peer {
	p, ok := n.peers[gw]
	if !ok {
		p = &peer{gateway: gw, state: Down}
		n.peers[gw] = p
	}
	return p
}

// notifyChanged is changedLocked for who does not hold the lock.
func (n *Node) notifyChanged() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.changedLocked()
}

// changedLocked tells everyone who watches peers or dials targets.
func (n *Node) changedLocked() {
	n.changes.Set(struct{}{})
	n.targets.lookAgainLocked(nil)
}

// Peers returns what is known of every peer, sorted, and a channel that closes
// when that is past: a peer came, went or left, a connection came or went, or an
// RTT changed materially.
func (n *Node) Peers() ([]Peer, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]Peer, 0, len(n.peers))
	for _, p := range n.peers {
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
	_, past := n.changes.Snapshot()
	return list, past
}

// Forget drops what is kept of a gateway that streams cannot be opened to: it is gone
// for good, and its metrics with it. What answers at a target's address later is new.
func (n *Node) Forget(gw mesh.GatewayID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, ok := n.peers[gw]
	if !ok || p.usable() > 0 {
		return
	}
	n.targets.forgetLocked(gw)
	p.forgotten = true // a dial may be on its way, or a connection drain; a sweep deletes it
	n.changedLocked()
}

// RTT returns the smoothed round-trip time to a gateway, by its best connection: the
// last known while it is down, 0 when it was never up.
func (n *Node) RTT(gw mesh.GatewayID) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, ok := n.peers[gw]
	if !ok {
		return 0
	}
	p.refreshLocked(time.Now())
	return p.rtt
}

// conns returns all admitted connections.
func (n *Node) conns() []*conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*conn
	for _, p := range n.peers {
		all = append(all, p.conns...)
	}
	return all
}

// Open opens a stream to a gateway on the least loaded of its connections. It fails
// at once with [ErrNoTunnel] when there is none.
func (n *Node) Open(ctx context.Context, to mesh.GatewayID) (*Stream, error) {
	for _, c := range n.choices(to) {
		s, err := c.open(ctx)
		if err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("open a stream to gateway %s: %w", to, context.Cause(ctx))
		}
	}
	return nil, fmt.Errorf("open a stream to gateway %s: %w", to, ErrNoTunnel)
}

// choices returns the connections that a stream may be opened on, best first.
func (n *Node) choices(to mesh.GatewayID) []*conn {
	n.mu.Lock()
	p, ok := n.peers[to]
	var all []*conn
	if ok {
		all = slices.Clone(p.conns)
	}
	n.mu.Unlock()
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
func (n *Node) peerLeaves(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.peerLocked(c.gateway)
	if !slices.Contains(p.conns, c) || p.left {
		return
	}
	p.left = true
	p.lastErr = "the gateway leaves"
	p.refreshLocked(time.Now())
	n.log.Info("gateway leaves", "gateway", c.gateway)
	n.changedLocked()
}

// remove takes a connection that ended, or is about to, out of the table. Only the
// first call for a connection does anything.
func (n *Node) remove(c *conn, why error) {
	why, label := connError(why)
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.peerLocked(c.gateway)
	i := slices.Index(p.conns, c)
	if i < 0 {
		return
	}
	p.conns = slices.Delete(slices.Clone(p.conns), i, i+1)
	p.past.addLocked(c)
	closed, _ := errors.AsType[*closeError](why)
	if closed != nil {
		n.closedLocked(closed)
	}
	if (closed == nil || closed.code != codeReplaced) && !c.retired.Load() { // else another was there before
		p.lastErr = why.Error()
	}
	if label == labelReset {
		for _, sibling := range p.conns {
			sibling.heartbeat() // most likely dead too: ask now
		}
	}
	n.metrics.closed.WithLabelValues(label).Inc()
	if closed != nil && closed.remote && (closed.code == codeLeaving || closed.code == codeBye) && !c.retired.Load() {
		p.left = true
	}
	if p.refreshLocked(time.Now()) && !p.left && !n.closing {
		n.log.Warn("tunnel down", "gateway", c.gateway, "err", why)
	} else {
		n.log.Debug("connection closed", "gateway", c.gateway, "err", why)
	}
	n.changedLocked()
	n.notifyDrained()
}

// closedLocked notes what a connection's end says of this gateway itself.
func (n *Node) closedLocked(why *closeError) {
	if why.remote && why.code == codeDuplicate {
		n.duplicate, n.duplicateAt = why.reason, time.Now()
	}
}

// Duplicate says that peers refuse this gateway because another live one has its
// name, and what to do; empty: they do not, or one has let it in.
func (n *Node) Duplicate() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Since(n.duplicateAt) > 2*maxBackoff { // it was not refused at the next dial
		return ""
	}
	for _, p := range n.peers {
		if p.usable() > 0 {
			return ""
		}
	}
	return n.duplicate
}

// sweep tells watchers of round-trip times that changed by a tenth and a
// millisecond and of packet sizes, retires what has been replaced, notifies targets
// whose connections need a replacement, and forgets peers that are long gone.
func (n *Node) sweep(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	changed := false
	wanted := map[mesh.GatewayID]bool{}
	for _, t := range n.targets.running {
		wanted[t.gatewayLocked()] = true
	}
	for gw, p := range maps.Clone(n.peers) {
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
			p.retireLocked(n.connections(), now)
			changed = n.sizeLocked(p, now) || changed
		} else if len(p.conns) == 0 && p.dialling == 0 && !wanted[gw] && (p.forgotten || now.Sub(p.since) > forgetAfter) {
			delete(n.peers, gw)
			changed = true
		}
	}
	if changed {
		n.changedLocked()
	}
}
