package tunnel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Target is an address to keep a tunnel to.
type Target struct {
	Addr    string         // host:port
	Gateway mesh.GatewayID // zero: any gateway may answer, as at a join address
}

// TargetState says how a target's dialling goes.
type TargetState struct {
	Addr      string         `json:"addr"`
	Gateway   mesh.GatewayID `json:"gateway,omitzero"`    // who is expected or answered last; zero: not known yet
	Connected bool           `json:"connected"`           // a live tunnel to Gateway exists, whoever dialled it
	LastError string         `json:"lastError,omitempty"` // of the last dial, empty after a success
}

// target keeps tunnels to one address. Its goroutine is [Node.keep].
type target struct {
	Target
	stop    context.CancelFunc
	stopped chan struct{} // closed when keep has returned

	changed chan struct{} // holds 1: look again whether a tunnel is wanted
	now     chan struct{} // holds 1: forget the backoff

	// Guarded by Node.mu.
	answered mesh.GatewayID // who answered last
	lastErr  string
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (t *target) poke()  { signal(t.changed) }
func (t *target) retry() { signal(t.now) }

// gatewayLocked returns who is expected or answered last.
func (t *target) gatewayLocked() mesh.GatewayID { return cmp.Or(t.Gateway, t.answered) }

// reaches reports whether the target is known to lead to gw. Node.mu is held.
func (t *target) reaches(gw mesh.GatewayID) bool { return t.gatewayLocked() == gw }

// SetTargets replaces the addresses to keep tunnels to. It does not block. A
// target that names this gateway itself is left out, of two with the same address
// the one that names a gateway stays.
func (n *Node) SetTargets(targets []Target) {
	byAddr := make(map[string]Target, len(targets))
	for _, t := range targets {
		if t.Gateway == n.cfg.Self {
			continue
		}
		if old, ok := byAddr[t.Addr]; !ok || old.Gateway.IsZero() {
			byAddr[t.Addr] = t
		}
	}
	n.mu.Lock()
	n.wantedTargets = byAddr
	n.mu.Unlock()
	signal(n.retarget)
}

// Hurry forgets the backoff of the targets that lead to a gateway: somebody has
// heard that it is there. It does nothing when a tunnel to the gateway is up.
func (n *Node) Hurry(gw mesh.GatewayID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p, ok := n.peers[gw]; ok && p.usable() > 0 {
		return
	}
	for _, t := range n.targets {
		if t.reaches(gw) {
			t.retry()
		}
	}
}

// TargetStates says how each target's dialling goes, sorted by address.
func (n *Node) TargetStates() []TargetState {
	n.mu.Lock()
	defer n.mu.Unlock()
	states := make([]TargetState, 0, len(n.wantedTargets))
	for addr, want := range n.wantedTargets {
		s := TargetState{Addr: addr, Gateway: want.Gateway}
		if t, ok := n.targets[addr]; ok && t.Target == want {
			s.Gateway, s.LastError = t.gatewayLocked(), t.lastErr
		}
		if p, ok := n.peers[s.Gateway]; ok {
			s.Connected = p.usable() > 0
		}
		states = append(states, s)
	}
	slices.SortFunc(states, func(a, b TargetState) int { return cmp.Compare(a.Addr, b.Addr) })
	return states
}

// keepTargets runs one goroutine for each wanted target until ctx ends.
func (n *Node) keepTargets(ctx context.Context) {
	defer func() {
		n.mu.Lock()
		running := n.targets
		n.targets = map[string]*target{}
		n.mu.Unlock()
		for _, t := range running {
			<-t.stopped // ctx has ended
		}
	}()
	for {
		n.mu.Lock()
		var gone []*target
		for addr, t := range n.targets {
			if n.wantedTargets[addr] != t.Target {
				delete(n.targets, addr)
				gone = append(gone, t)
			}
		}
		for addr, want := range n.wantedTargets {
			if _, ok := n.targets[addr]; !ok {
				n.targets[addr] = n.startTarget(ctx, want)
			}
		}
		n.mu.Unlock()
		for _, t := range gone {
			t.stop()
		}
		for _, t := range gone {
			<-t.stopped
		}
		select {
		case <-ctx.Done():
			return
		case <-n.retarget:
		}
	}
}

func (n *Node) startTarget(ctx context.Context, want Target) *target {
	ctx, cancel := context.WithCancel(ctx)
	t := &target{
		Target: want, stop: cancel, stopped: make(chan struct{}),
		changed: make(chan struct{}, 1), now: make(chan struct{}, 1),
	}
	go func() {
		defer close(t.stopped)
		defer cancel()
		n.keep(ctx, t)
	}()
	return t
}

// keep dials a target whenever its gateway has too few tunnels.
func (n *Node) keep(ctx context.Context, t *target) {
	var mine []*conn // dialled here and not seen to end yet
	failures := 0
	wait := n.dialDelay(t)
	for ctx.Err() == nil {
		for i := len(mine) - 1; i >= 0; i-- {
			select {
			case <-mine[i].ended:
				if time.Since(mine[i].started) < shortLife {
					failures++
					wait = backoff(failures)
				} else {
					wait = n.dialDelay(t)
				}
				mine = slices.Delete(mine, i, i+1)
			default:
			}
		}
		if !n.wants(t) {
			select {
			case <-ctx.Done():
			case <-t.changed:
			}
			if wait == 0 {
				wait = n.dialDelay(t)
			}
			continue
		}
		if wait > 0 {
			timer := time.NewTimer(wait)
			wait = 0
			select {
			case <-ctx.Done():
			case <-timer.C:
			case <-t.now:
				failures = 0
				wait = n.dialDelay(t)
			}
			timer.Stop()
			continue // others may have dialled it meanwhile
		}
		tun, err := n.dialTarget(ctx, t)
		switch {
		case err == nil && tun == nil:
			wait = minBackoff // enough connections: look again when that changes
		case err == nil:
			mine = append(mine, tun)
			failures = 0
		case ctx.Err() != nil:
		case errors.Is(err, errSelf):
			wait = maxBackoff
		default:
			failures++
			wait = backoff(failures)
		}
	}
}

// backoff returns how long to wait after so many failures in a row: doubling
// from minBackoff to maxBackoff, half of it random.
func backoff(failures int) time.Duration {
	d := min(minBackoff<<min(failures-1, 10), maxBackoff)
	return d/2 + rand.N(d/2+1)
}

// dialDelay returns how long to wait before a first dial, so that the other end,
// if it knows us too, may be first. See the package comment.
func (n *Node) dialDelay(t *target) time.Duration {
	n.mu.Lock()
	gw := t.gatewayLocked()
	n.mu.Unlock()
	if !gw.IsZero() && compareIDs(n.cfg.Self, gw) > 0 {
		return headStart
	}
	return 0
}

// wants reports whether the target's gateway has too few tunnels.
func (n *Node) wants(t *target) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	gw := t.gatewayLocked()
	if gw.IsZero() {
		return true
	}
	p, ok := n.peers[gw]
	return !ok || p.notExpiring(time.Now())+p.dialling < n.connections()
}

// dialTarget dials once and records how it went. It returns nil, nil when the
// tunnel turned out not to be needed.
func (n *Node) dialTarget(ctx context.Context, t *target) (*conn, error) {
	n.mu.Lock()
	gw := t.gatewayLocked()
	nth := 0 // which connection to the gateway this will be
	if !gw.IsZero() {
		p := n.peerLocked(gw)
		nth = p.notExpiring(time.Now()) + p.dialling
		p.dialling++
	}
	n.mu.Unlock()

	tun, answered, err := n.dial(ctx, t.Target, nth)
	why := err
	if err != nil {
		why, _ = connError(err)
	}
	var closed *closeError
	if errors.As(why, &closed) {
		switch {
		case closed.code == codeSurplus && !closed.remote:
			tun, err = nil, nil // another target leads to the same gateway
		case closed.code == codeSelf:
			err = errSelf
		}
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	if !gw.IsZero() {
		n.peerLocked(gw).dialling--
	}
	if !answered.IsZero() && t.Gateway.IsZero() {
		t.answered = answered
	}
	result := "ok"
	if err == nil {
		t.lastErr = ""
	} else if ctx.Err() == nil {
		result = "failed"
		if text := fmt.Sprintf("dial gateway at %s: %v", t.Addr, why); text != t.lastErr {
			t.lastErr = text
			if !errors.Is(err, errSelf) {
				n.log.Warn("gateway cannot be reached, trying on", "gateway", gw, "peer_addr", t.Addr, "err", why)
			}
		}
	}
	n.metrics.dials.WithLabelValues(result).Inc()
	for _, other := range n.targets {
		if other != t {
			other.poke() // dialling has changed
		}
	}
	return tun, err
}

// resolve looks an address up in DNS; of several results one is taken at random.
func resolve(ctx context.Context, addr string) (net.Addr, error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: write host:port", addr)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("address %q: port must be 1 to 65535", addr)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(port))), nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	ip := ips[rand.IntN(len(ips))] // LookupNetIP returns at least one
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip.Unmap(), uint16(port))), nil
}
