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

// target keeps tunnels to one address. Its goroutine is [Endpoint.keep].
type target struct {
	Target
	stop    context.CancelFunc
	stopped chan struct{} // closed when keep has returned

	changed chan struct{} // holds 1: look again whether a tunnel is wanted
	now     chan struct{} // holds 1: forget the backoff

	// Guarded by Endpoint.mu.
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

// reaches reports whether the target is known to lead to gw. Endpoint.mu is held.
func (t *target) reaches(gw mesh.GatewayID) bool { return t.gatewayLocked() == gw }

// SetTargets replaces the addresses to keep tunnels to. It does not block. A
// target that names this gateway itself is left out, of two with the same address
// the one that names a gateway stays.
func (e *Endpoint) SetTargets(targets []Target) {
	byAddr := make(map[string]Target, len(targets))
	for _, t := range targets {
		if t.Gateway == e.cfg.Self {
			continue
		}
		if old, ok := byAddr[t.Addr]; !ok || old.Gateway.IsZero() {
			byAddr[t.Addr] = t
		}
	}
	e.mu.Lock()
	e.wantedTargets = byAddr
	e.mu.Unlock()
	signal(e.retarget)
}

// Hurry forgets the backoff of the targets that lead to a gateway: somebody has
// heard that it is there. It does nothing when a tunnel to the gateway is up.
func (e *Endpoint) Hurry(gw mesh.GatewayID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p, ok := e.peers[gw]; ok && p.usable() > 0 {
		return
	}
	for _, t := range e.targets {
		if t.reaches(gw) {
			t.retry()
		}
	}
}

// TargetStates says how each target's dialling goes, sorted by address.
func (e *Endpoint) TargetStates() []TargetState {
	e.mu.Lock()
	defer e.mu.Unlock()
	states := make([]TargetState, 0, len(e.wantedTargets))
	for addr, want := range e.wantedTargets {
		s := TargetState{Addr: addr, Gateway: want.Gateway}
		if t, ok := e.targets[addr]; ok && t.Target == want {
			s.Gateway, s.LastError = t.gatewayLocked(), t.lastErr
		}
		if p, ok := e.peers[s.Gateway]; ok {
			s.Connected = p.usable() > 0
		}
		states = append(states, s)
	}
	slices.SortFunc(states, func(a, b TargetState) int { return cmp.Compare(a.Addr, b.Addr) })
	return states
}

// keepTargets runs one goroutine for each wanted target until ctx ends.
func (e *Endpoint) keepTargets(ctx context.Context) {
	defer func() {
		e.mu.Lock()
		running := e.targets
		e.targets = map[string]*target{}
		e.mu.Unlock()
		for _, t := range running {
			<-t.stopped // ctx has ended
		}
	}()
	for {
		e.mu.Lock()
		var gone []*target
		for addr, t := range e.targets {
			if e.wantedTargets[addr] != t.Target {
				delete(e.targets, addr)
				gone = append(gone, t)
			}
		}
		for addr, want := range e.wantedTargets {
			if _, ok := e.targets[addr]; !ok {
				e.targets[addr] = e.startTarget(ctx, want)
			}
		}
		e.mu.Unlock()
		for _, t := range gone {
			t.stop()
		}
		for _, t := range gone {
			<-t.stopped
		}
		select {
		case <-ctx.Done():
			return
		case <-e.retarget:
		}
	}
}

func (e *Endpoint) startTarget(ctx context.Context, want Target) *target {
	ctx, cancel := context.WithCancel(ctx)
	t := &target{
		Target: want, stop: cancel, stopped: make(chan struct{}),
		changed: make(chan struct{}, 1), now: make(chan struct{}, 1),
	}
	go func() {
		defer close(t.stopped)
		defer cancel()
		e.keep(ctx, t)
	}()
	return t
}

// keep dials a target whenever its gateway has too few tunnels.
func (e *Endpoint) keep(ctx context.Context, t *target) {
	var mine []*tunnel // dialled here and not seen to end yet
	failures := 0
	wait := e.courtesy(t)
	for ctx.Err() == nil {
		for i := len(mine) - 1; i >= 0; i-- {
			select {
			case <-mine[i].ended:
				if time.Since(mine[i].started) < shortLife {
					failures++
					wait = backoff(failures)
				} else {
					wait = e.courtesy(t)
				}
				mine = slices.Delete(mine, i, i+1)
			default:
			}
		}
		if !e.wants(t) {
			select {
			case <-ctx.Done():
			case <-t.changed:
			}
			if wait == 0 {
				wait = e.courtesy(t)
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
				wait = e.courtesy(t)
			}
			timer.Stop()
			continue // others may have dialled it meanwhile
		}
		tun, err := e.dialTarget(ctx, t)
		switch {
		case err == nil && tun == nil:
			wait = backoffFirst // enough connections: look again when that changes
		case err == nil:
			mine = append(mine, tun)
			failures = 0
		case ctx.Err() != nil:
		case errors.Is(err, errSelf):
			wait = backoffMost
		default:
			failures++
			wait = backoff(failures)
		}
	}
}

// backoff returns how long to wait after so many failures in a row: doubling
// from backoffFirst to backoffMost, half of it random.
func backoff(failures int) time.Duration {
	d := min(backoffFirst<<min(failures-1, 10), backoffMost)
	return d/2 + rand.N(d/2+1)
}

// courtesy returns how long to wait before a first dial, so that the other end,
// if it knows us too, may be first. See the package comment.
func (e *Endpoint) courtesy(t *target) time.Duration {
	e.mu.Lock()
	gw := t.gatewayLocked()
	e.mu.Unlock()
	if !gw.IsZero() && compareIDs(e.cfg.Self, gw) > 0 {
		return headStart
	}
	return 0
}

// wants reports whether the target's gateway has too few tunnels.
func (e *Endpoint) wants(t *target) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	gw := t.gatewayLocked()
	if gw.IsZero() {
		return true
	}
	p, ok := e.peers[gw]
	return !ok || p.lasting(time.Now())+p.dialling < e.connections()
}

// dialTarget dials once and records how it went. It returns nil, nil when the
// tunnel turned out not to be needed.
func (e *Endpoint) dialTarget(ctx context.Context, t *target) (*tunnel, error) {
	e.mu.Lock()
	gw := t.gatewayLocked()
	nth := 0 // which connection to the gateway this will be
	if !gw.IsZero() {
		p := e.peerLocked(gw)
		nth = p.lasting(time.Now()) + p.dialling
		p.dialling++
	}
	e.mu.Unlock()

	tun, answered, err := e.dial(ctx, t.Target, nth)
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

	e.mu.Lock()
	defer e.mu.Unlock()
	if !gw.IsZero() {
		e.peerLocked(gw).dialling--
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
				e.log.Warn("gateway cannot be reached, trying on", "peer", gw, "addr", t.Addr, "err", why)
			}
		}
	}
	e.metrics.dials.WithLabelValues(result).Inc()
	for _, other := range e.targets {
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
