package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
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

func newDialer(n *Node, t *target) *dialer {
	d := &dialer{node: n, target: t, backoff: state.Backoff{Min: minBackoff, Max: maxBackoff}}
	d.wait = d.delay()
	return d
}

func (d *dialer) run(ctx context.Context) {
	for ctx.Err() == nil {
		d.forgetEnded()
		switch {
		case !d.wants():
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
			d.wait = d.delay()
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
		d.wait = d.delay()
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
		d.wait = d.delay()
	}
}

func (d *dialer) dial(ctx context.Context) {
	c, err := d.dialOnce(ctx)
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

// delay returns how long to wait before a first dial, so that the other end,
// if it knows us too, may be first. See the package comment.
func (d *dialer) delay() time.Duration {
	n, t := d.node, d.target
	n.table.mu.Lock()
	gw := t.gatewayLocked()
	p := n.table.peers[gw]
	replaces := p != nil && slices.ContainsFunc(p.conns, func(c *conn) bool { return c.dialled && c.replaceable(time.Now()) })
	n.table.mu.Unlock()
	if !gw.IsZero() && !replaces && n.cfg.Self.Compare(gw) > 0 {
		return headStart
	}
	return 0
}

// wants reports whether the target's gateway has too few connections.
func (d *dialer) wants() bool {
	n, t := d.node, d.target
	n.table.mu.Lock()
	defer n.table.mu.Unlock()
	gw := t.gatewayLocked()
	if gw.IsZero() {
		return true
	}
	p, ok := n.table.peers[gw]
	return !ok || p.current(time.Now())+p.dialling < n.table.connections
}

// dialOnce dials once and records how it went. It returns nil, nil when the
// connection turned out not to be needed.
func (d *dialer) dialOnce(ctx context.Context) (*conn, error) {
	n, t := d.node, d.target
	n.table.mu.Lock()
	gw := t.gatewayLocked()
	nth := 0 // which connection to the gateway this will be
	if !gw.IsZero() {
		p := n.table.peerLocked(gw)
		nth = p.current(time.Now()) + p.dialling
		p.dialling++
	}
	n.table.mu.Unlock()

	c, answered, err := d.connect(ctx, nth)

	n.table.mu.Lock()
	defer n.table.mu.Unlock()
	if !gw.IsZero() {
		n.table.peerLocked(gw).dialling--
	}
	if !answered.IsZero() && t.Gateway.IsZero() {
		t.answered = answered
	}
	n.targets.lookAgainLocked(t) // dialling has changed
	return c, d.dialledLocked(ctx, err)
}

// connect makes and admits one connection, which then runs in a goroutine of its own.
// nth is how many connections to the gateway exist: further ones use a socket of
// their own. answered says who was there, also when it was refused.
func (d *dialer) connect(ctx context.Context, nth int) (_ *conn, answered mesh.GatewayID, err error) {
	n, t := d.node, d.target
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	addr, err := n.cfg.Resolve(dialCtx, t.Addr)
	if err != nil {
		return nil, answered, err
	}
	n.table.dialledTo(t, addr)
	policy := identity.AnyGateway()
	if !t.Gateway.IsZero() {
		policy = identity.ExactGateway(t.Gateway)
	}
	transport, release, err := n.transportFor(nth)
	if err != nil {
		return nil, answered, err
	}
	ownUntil := n.cfg.Identity.NotAfter()
	q, err := transport.Dial(dialCtx, addr, n.cfg.Identity.HearingTLS(serverName, policy, alpn), quicConfig())
	if err != nil {
		release()
		return nil, answered, err
	}
	c, err := newConn(n, q, true, ownUntil)
	if err == nil {
		answered = c.gateway
		err = c.handshake(dialCtx, n.admit)
	}
	if err != nil {
		if cause := context.Cause(q.Context()); cause != nil {
			err = cause // why the peer closed it says more than that it is closed
		}
		closeConn(q, err)
		if c != nil {
			n.table.remove(c, err)
		}
		release()
		return nil, answered, err
	}
	n.wg.Go(func() {
		n.serve(c)
		release()
	})
	return c, answered, nil
}

// dialledLocked records how a dial went and returns why it failed.
func (d *dialer) dialledLocked(ctx context.Context, err error) error {
	n, t := d.node, d.target
	result, why, label := "ok", err, ""
	if err != nil {
		why, label = connError(err)
	}
	if closed, ok := errors.AsType[*closeError](why); ok {
		n.table.closedLocked(closed)
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
				level := slog.LevelWarn
				if saidGoodbye(why, label) {
					level = slog.LevelInfo // planned, and others took over
				}
				n.log.Log(ctx, level, "gateway cannot be reached, trying on", "gateway", t.gatewayLocked(), "peer_addr", t.Addr, "err", why)
			}
		}
	}
	n.metrics.dials.WithLabelValues(result).Inc()
	t.unanswered = label == "timeout" || label == "silent"
	return err
}

// saidGoodbye reports whether a peer that could not be dialled leaves on purpose: it
// says so, or refuses whoever comes while it stops.
func saidGoodbye(why error, label string) bool {
	closed, ok := errors.AsType[*closeError](why)
	return ok && closed.remote && (closed.code == codeBye || closed.code == codeLeaving) || label == labelRefused
}
