package tunnel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/state"
)

// dialer dials one target whenever its gateway has too few connections. It
// belongs to one goroutine.
type dialer struct {
	node    *Node
	target  *target
	mine    []*conn // dialled here and not seen to end yet
	backoff state.Backoff
	wait    time.Duration // before the next dial
}

func (n *Node) newDialer(t *target) *dialer {
	return &dialer{node: n, target: t, backoff: state.Backoff{Min: minBackoff, Max: maxBackoff}, wait: n.dialDelay(t)}
}

func (d *dialer) run(ctx context.Context) {
	for ctx.Err() == nil {
		d.forgetEnded()
		switch {
		case !d.node.wants(d.target):
			d.idle(ctx)
		case d.wait > 0:
			d.pause(ctx)
		default:
			d.dial(ctx)
		}
	}
}

// forgetEnded looks which connections have ended: one that did not live long
// counts as a failed dial.
func (d *dialer) forgetEnded() {
	d.mine = slices.DeleteFunc(d.mine, func(c *conn) bool {
		select {
		case <-c.ended:
		default:
			return false
		}
		if time.Since(c.started) < shortLife {
			d.wait = d.backoff.Next()
		} else {
			d.wait = d.node.dialDelay(d.target)
		}
		return true
	})
}

// idle waits until a connection may be wanted.
func (d *dialer) idle(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-d.target.changed.C():
	}
	if d.wait == 0 {
		d.wait = d.node.dialDelay(d.target)
	}
}

// pause waits before the next dial; others may dial meanwhile.
func (d *dialer) pause(ctx context.Context) {
	timer := time.NewTimer(d.wait)
	defer timer.Stop()
	d.wait = 0
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-d.target.redial.C():
		d.backoff.Reset()
		d.wait = d.node.dialDelay(d.target)
	}
}

func (d *dialer) dial(ctx context.Context) {
	c, err := d.node.dialTarget(ctx, d.target)
	switch {
	case err == nil && c == nil:
		d.wait = minBackoff // enough connections: look again when that changes
	case err == nil:
		d.mine = append(d.mine, c)
		d.backoff.Reset()
	case ctx.Err() != nil:
	case errors.Is(err, errSelf):
		d.wait = maxBackoff
	default:
		d.wait = d.backoff.Next()
	}
}

// dialDelay returns how long to wait before a first dial, so that the other end,
// if it knows us too, may be first. See the package comment.
func (n *Node) dialDelay(t *target) time.Duration {
	n.mu.Lock()
	gw := t.gatewayLocked()
	p := n.peers[gw]
	replaces := p != nil && slices.ContainsFunc(p.conns, func(c *conn) bool { return c.dialled && c.replaceable(time.Now()) })
	n.mu.Unlock()
	if !gw.IsZero() && !replaces && n.cfg.Self.Compare(gw) > 0 {
		return headStart
	}
	return 0
}

// wants reports whether the target's gateway has too few connections.
func (n *Node) wants(t *target) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	gw := t.gatewayLocked()
	if gw.IsZero() {
		return true
	}
	p, ok := n.peers[gw]
	return !ok || p.current(time.Now())+p.dialling < n.connections()
}

// dialTarget dials once and records how it went. It returns nil, nil when the
// connection turned out not to be needed.
func (n *Node) dialTarget(ctx context.Context, t *target) (*conn, error) {
	n.mu.Lock()
	gw := t.gatewayLocked()
	nth := 0 // which connection to the gateway this will be
	if !gw.IsZero() {
		p := n.peerLocked(gw)
		nth = p.current(time.Now()) + p.dialling
		p.dialling++
	}
	n.mu.Unlock()

	c, answered, err := n.dial(ctx, t, nth)

	n.mu.Lock()
	defer n.mu.Unlock()
	if !gw.IsZero() {
		n.peerLocked(gw).dialling--
	}
	if !answered.IsZero() && t.Gateway.IsZero() {
		t.answered = answered
	}
	for _, other := range n.targets {
		if other != t {
			other.changed.Notify() // dialling has changed
		}
	}
	return c, n.dialledLocked(ctx, t, err)
}

// dialledLocked records how a dial went and returns why it failed.
func (n *Node) dialledLocked(ctx context.Context, t *target, err error) error {
	result, why, label := "ok", err, ""
	if err != nil {
		why, label = connError(err)
	}
	if closed, ok := errors.AsType[*closeError](why); ok {
		n.closedLocked(closed)
		switch {
		case closed.code == codeSurplus && !closed.remote:
			err = nil // another target leads to the same gateway
		case closed.code == codeSelf:
			err = errSelf
		}
	}
	if err == nil {
		t.lastErr = ""
	} else if ctx.Err() == nil {
		result = "failed"
		if text := fmt.Sprintf("dial gateway at %s: %v", t.Addr, why); text != t.lastErr {
			t.lastErr = text
			if !errors.Is(err, errSelf) {
				n.log.Warn("gateway cannot be reached, trying on", "gateway", t.gatewayLocked(), "peer_addr", t.Addr, "err", why)
			}
		}
	}
	n.metrics.dials.WithLabelValues(result).Inc()
	if t.unanswered = label == "timeout" || label == "silent"; t.unanswered {
		n.unanswered.Store(true)
	}
	return err
}
