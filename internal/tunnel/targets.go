package tunnel

import (
	"cmp"
	"context"
	"net"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Target is an address to keep a tunnel to.
type Target struct {
	Addr    string         // host:port
	Gateway mesh.GatewayID // zero: any gateway may answer, as at a join address
}

// TargetState says how a target's dialling goes.
type TargetState struct {
	Addr      string
	Gateway   mesh.GatewayID // who is expected or answered last; zero: not known yet
	Connected bool           // a live tunnel to Gateway exists, whoever dialled it
	LastError string         // of the last dial, empty after a success
}

// target keeps a tunnel to one address. Its goroutine runs a [dialer].
type target struct {
	Target
	stop    context.CancelFunc
	stopped chan struct{} // closed when the dialer has returned

	changed state.Notify // look again whether a connection is wanted
	redial  state.Notify // do not wait out the backoff

	// Guarded by table.mu.
	answered   mesh.GatewayID // who answered last
	lastErr    string
	addr       net.Addr // where it was dialled last
	unanswered bool     // nobody was there, and no sign of life came from there since
}

// gatewayLocked returns who is expected or answered last.
func (t *target) gatewayLocked() mesh.GatewayID { return cmp.Or(t.Gateway, t.answered) }

// reaches reports whether the target is known to lead to gw. table.mu is held.
func (t *target) reaches(gw mesh.GatewayID) bool { return t.gatewayLocked() == gw }

// targets are the addresses that this gateway keeps tunnels to, with a dialer for each.
type targets struct {
	node    *Node
	changed state.Notify // wanted is

	// Guarded by table.mu.
	wanted  map[string]Target
	running map[string]*target // by address
}

// SetTargets replaces the addresses to keep tunnels to. It does not block. A
// target that names this gateway itself is left out, of two with the same address
// the one that names a gateway stays.
func (n *Node) SetTargets(list []Target) {
	byAddr := make(map[string]Target, len(list))
	for _, t := range list {
		if t.Gateway == n.cfg.Self {
			continue
		}
		if old, ok := byAddr[t.Addr]; !ok || old.Gateway.IsZero() {
			byAddr[t.Addr] = t
		}
	}
	n.targets.set(byAddr)
}

// Redial forgets the backoff of the targets that lead to a gateway: somebody has
// heard that it is there. It does nothing when a tunnel to the gateway is up.
func (n *Node) Redial(gw mesh.GatewayID) {
	n.table.mu.Lock()
	defer n.table.mu.Unlock()
	if p, ok := n.table.peers[gw]; ok && p.usable() > 0 {
		return
	}
	n.targets.redialLocked(gw)
}

// TargetStates says how each target's dialling goes, sorted by address.
func (n *Node) TargetStates() []TargetState {
	n.table.mu.Lock()
	defer n.table.mu.Unlock()
	states := make([]TargetState, 0, len(n.targets.wanted))
	for addr, want := range n.targets.wanted {
		s := TargetState{Addr: addr, Gateway: want.Gateway}
		if t, ok := n.targets.running[addr]; ok && t.Target == want {
			s.Gateway, s.LastError = t.gatewayLocked(), t.lastErr
		}
		if p, ok := n.table.peers[s.Gateway]; ok {
			s.Connected = p.usable() > 0
		}
		states = append(states, s)
	}
	slices.SortFunc(states, func(a, b TargetState) int { return cmp.Compare(a.Addr, b.Addr) })
	return states
}

// heardLocked ends the backoff of the targets that nobody answered at and that are
// likely to be there again, because a gateway has a tunnel: those at the host that it
// comes from, and those of its cluster.
func (ts *targets) heardLocked(from net.Addr, gw mesh.GatewayID) {
	for _, t := range ts.running {
		if t.unanswered && (sameHost(t.addr, from) || t.gatewayLocked().Cluster == gw.Cluster) {
			t.unanswered = false
			t.redial.Notify()
		}
	}
}

// redialLocked ends the backoff of the targets that lead to a gateway.
func (ts *targets) redialLocked(gw mesh.GatewayID) {
	for _, t := range ts.running {
		if t.reaches(gw) {
			t.redial.Notify()
		}
	}
}

// lookAgainLocked tells the dialers of all targets but one to look again whether a
// connection is wanted; nil: of all.
func (ts *targets) lookAgainLocked(but *target) {
	for _, t := range ts.running {
		if t != but {
			t.changed.Notify()
		}
	}
}

// forgetLocked forgets that a gateway answered anywhere.
func (ts *targets) forgetLocked(gw mesh.GatewayID) {
	for _, t := range ts.running {
		if t.answered == gw {
			t.answered = mesh.GatewayID{}
		}
	}
}

// set replaces the wanted targets.
func (ts *targets) set(byAddr map[string]Target) {
	ts.node.table.mu.Lock()
	ts.wanted = byAddr
	ts.node.table.mu.Unlock()
	ts.changed.Notify()
}

func sameHost(a, b net.Addr) bool {
	x, ok := a.(*net.UDPAddr)
	y, ok2 := b.(*net.UDPAddr)
	return ok && ok2 && x.IP.Equal(y.IP)
}

// run runs one goroutine for each wanted target until ctx ends.
func (ts *targets) run(ctx context.Context) {
	defer func() {
		ts.node.table.mu.Lock()
		running := ts.running
		ts.running = map[string]*target{}
		ts.node.table.mu.Unlock()
		for _, t := range running {
			<-t.stopped // ctx has ended
		}
	}()
	for {
		ts.node.table.mu.Lock()
		var gone []*target
		for addr, t := range ts.running {
			if ts.wanted[addr] != t.Target {
				delete(ts.running, addr)
				gone = append(gone, t)
			}
		}
		for addr, want := range ts.wanted {
			if _, ok := ts.running[addr]; !ok {
				ts.running[addr] = ts.start(ctx, want)
			}
		}
		ts.node.table.mu.Unlock()
		for _, t := range gone {
			t.stop()
		}
		for _, t := range gone {
			<-t.stopped
		}
		select {
		case <-ctx.Done():
			return
		case <-ts.changed.C():
		}
	}
}

func (ts *targets) start(ctx context.Context, want Target) *target {
	ctx, cancel := context.WithCancel(ctx)
	t := &target{
		Target: want, stop: cancel, stopped: make(chan struct{}),
		changed: state.NewNotify(), redial: state.NewNotify(),
	}
	go func() {
		defer close(t.stopped)
		defer cancel()
		newDialer(ts.node, t).run(ctx)
	}()
	return t
}
