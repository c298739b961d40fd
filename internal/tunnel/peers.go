package tunnel

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/limit"
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

// peer is the mutable side of a [Peer]. Guarded by table.mu.
type peer struct {
	gateway   mesh.GatewayID
	conns     []*conn // admitted and not ended
	dialling  int     // targets that dial it right now
	state     State
	left      bool
	since     time.Time
	addr      string
	host      limit.Source // of addr
	lastErr   string
	founding  identity.Founding
	forgotten bool // and not met since
	rtt       time.Duration
	toldRTT   time.Duration // rtt when watchers were last told
	past      totals        // of connections that have ended
	use       use           // not guarded

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

// Peers returns what is known of every peer, sorted, and a channel that closes
// when that is past: a peer came, went or left, a connection came or went, or an
// RTT changed materially.
func (n *Node) Peers() ([]Peer, <-chan struct{}) { return n.table.list() }

// Forget drops what is kept of a gateway that streams cannot be opened to: it is gone
// for good, and its metrics with it. What answers at a target's address later is new.
func (n *Node) Forget(gw mesh.GatewayID) { n.table.forget(gw) }

// RTT returns the smoothed round-trip time to a gateway, by its best connection: the
// last known while it is down, 0 when it was never up.
func (n *Node) RTT(gw mesh.GatewayID) time.Duration { return n.table.rtt(gw) }

// Duplicate says that peers refuse this gateway because another live one has its
// name, and what to do; empty: they do not, or one has let it in.
func (n *Node) Duplicate() string { return n.table.refusedAs() }

// Open opens a stream to a gateway on the least loaded of its connections. It fails
// at once with [ErrNoTunnel] when there is none.
func (n *Node) Open(ctx context.Context, to mesh.GatewayID) (*Stream, error) {
	for _, c := range n.table.choices(to) {
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
