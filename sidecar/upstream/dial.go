package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/liveness"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/socket"
)

// get returns a connection to h: an idle one that is still good or, when there
// is none, a new one. Once a connection of the same request has broken it is
// always a new one. a may be nil. A new one costs at most the connect's bound and 2 s.
//
// Its error is a [*ConnectError]; nobody has seen the request. Unless ctx ended
// it, h or who answers behind it has been blamed, so that others avoid it.
func (h *Host) get(ctx context.Context, a *Attempts) (*Conn, error) {
	c, _, err := h.getOrOpen(ctx, a)
	return c, err
}

// getOrOpen is get; pooled says that the connection is not new. Others may use it, too, when
// it has streams.
func (h *Host) getOrOpen(ctx context.Context, a *Attempts) (c *Conn, pooled bool, err error) {
	if a == nil || !a.fresh {
		if c := h.pool.takeOrAwait(ctx, a); c != nil {
			if h.reuse(c).wire == wireOf(c.dialConfig.protocol, a) || c.dialConfig.protocol != mesh.Auto {
				return c, true, nil
			}
			if c.instance != nil {
				c.instance.active.Add(-1)
			}
			_ = c.Close() // an `auto` program is spoken to in another protocol this time
		}
	}
	c, err = h.openWith(ctx, a, false)
	return c, false, err
}

// reuse makes c, which the pool gave, ready for another request.
func (h *Host) reuse(c *Conn) *Conn {
	h.service.metrics.reused().Inc()
	if c.mux == nil {
		c.Reused = true
		c.sent.Store(false)
		c.answered.Store(false)
	}
	return c
}

// put is [Lease.Return] of a connection without streams.
func (h *Host) put(c *Conn) {
	if c.fits(h.service.dialConfig.Load()) && !c.going() && h.pool.put(c, h.service.shared.now()) {
		return
	}
	_ = c.Close()
}

// openWith dials h and blames whoever prevents it. share offers to share the connection.
func (h *Host) openWith(ctx context.Context, a *Attempts, share bool) (c *Conn, err error) {
	service := h.service
	var avoid []connect.Instance
	if h.key.gateway {
		avoid = service.remotes.excluded(service.shared.now(), maxExcluded)
		if a != nil {
			avoid = append(avoid, a.avoid[:a.avoided]...)
		}
	}
	dest := service.dest
	if a != nil && a.stay.cluster != "" {
		dest.Cluster = a.stay.cluster
	}
	config := service.dialConfig.Load()
	as := speech{wireOf(config.protocol, a), share || h.sharesPaths(config, a)}
	if h.key.gateway {
		o := h.pool.opening(as.share, a)
		defer func() { h.pool.opened(o, c) }()
	}
	c, err = h.connect(ctx, as, dest, avoid, nil)
	if len(avoid) > 0 && errors.As(err, new(*connect.Refusal)) {
		// Perhaps those were all there are. Somebody who failed lately is
		// better than nobody.
		c, err = h.connect(ctx, as, dest, nil, nil)
	}
	if err == nil {
		h.connected(service.shared.now())
		service.metrics.opened[h.key.priority()]().Inc()
		if !share {
			h.beginStreams(c, a, as)
			h.pool.join(c, service.shared.now(), a == nil || !a.fresh)
		}
		return c, nil
	}
	failure := &ConnectError{Destination: service.dest, Addr: h.key.addr, Gateway: h.key.gateway, Stage: StageConnect, Err: err}
	var at *stageError
	if errors.As(err, &at) {
		failure.Stage, failure.Cluster, failure.Instance, failure.Err = at.stage, at.who.Cluster, at.who.Name, at.err
	}
	if ourFault(err) {
		failure.Stage = StageLocal
	}
	service.metrics.failed[h.key.priority()][failure.Stage]().Inc()
	h.blameConnect(ctx, a, failure)
	return nil, failure
}

// stageError says how far connect got and who was at the other end.
type stageError struct {
	stage Stage
	who   connect.Instance
	err   error
}

func (e *stageError) Error() string { return e.err.Error() }
func (e *stageError) Unwrap() error { return e.err }

// connect makes a connection to h, and through a gateway to dest: to nobody of avoid,
// and rather to somebody other than held. Its errors are stageErrors.
func (h *Host) connect(ctx context.Context, as speech, dest mesh.Destination, avoid, held []connect.Instance) (*Conn, error) {
	shared, config := h.service.shared, h.service.dialConfig.Load()
	if !h.key.plain && config.tls != nil {
		if err := shared.cfg.Identity.Err(); err != nil {
			return nil, &stageError{stage: StageLocal, err: err}
		}
	}
	sock, err := h.dial(ctx)
	if err != nil && h.service.makeRoom(ctx, err) {
		sock, err = h.dial(ctx)
	}
	switch {
	case err == nil:
	case shortage(err) != "":
		return nil, &stageError{stage: StageLocal, err: err}
	default:
		return nil, &stageError{stage: StageConnect, err: err}
	}
	c := &Conn{Conn: sock, sock: sock, host: h, opened: shared.now(), dialConfig: config, Cluster: shared.cfg.Cluster, Instance: h.key.instance, program: h.key.plain, wire: as.wire}
	c.peek.init(sock)
	if h.key.plain {
		c.plain = socket.Of(sock)
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := c.secure(ctx, h, config, as, dest, avoid, held); err != nil {
		_ = sock.Close()
		return nil, err
	}
	shared.secured.add(c)
	return c, nil
}

// dial connects to h.
func (h *Host) dial(ctx context.Context) (net.Conn, error) {
	if bound := h.service.connect; bound > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, bound)
		defer cancel()
	}
	conn, err := h.service.shared.dial(ctx, "tcp", h.key.addr)
	if err == nil && h.service.dest != (mesh.Destination{}) { // the program beside is on this machine
		liveness.KeepAlive(conn)
	}
	return conn, err
}

// secure opens the path, if h is a gateway, and ends TLS with who serves.
func (c *Conn) secure(ctx context.Context, h *Host, config *dialConfig, as speech, dest mesh.Destination, avoid, held []connect.Instance) error {
	who := connect.Instance{Cluster: c.Cluster, Name: c.Instance}
	if config.tls == nil {
		return &stageError{StageHandshake, who, errors.New("we have no certificate: set identity in the configuration")}
	}
	var path *pathConn
	below := c.sock
	if h.key.gateway {
		path = newPath(c.sock, dest, exclusions(h.service.shared.cfg.Cluster, dest.Cluster, avoid), held)
		below, c.path = path, path
	}
	c.trustPast = h.service.shared.cfg.Identity.Trust().Past() // before the judgement
	ends := h.service.shared.cfg.Identity.NotAfter()           // of what we show, or what was before it
	over := identity.Client(below, config.tlsFor(as))
	start := time.Now()
	err := over.HandshakeContext(ctx)
	if path != nil {
		who = path.who.Instance // zero until the gateway has answered
	}
	switch {
	case err == nil:
	case path != nil && errors.As(path.failed, new(*connect.Refusal)):
		return &stageError{StagePath, who, path.failed}
	case path != nil && !path.open && ctx.Err() != nil: // which has closed the connection
		return &stageError{StagePath, who, timedOut(ctx.Err(), "the gateway did not answer CONNECT", start)}
	case path != nil && path.failed != nil:
		return &stageError{StagePath, who, path.failed}
	case path != nil && !path.open:
		return &stageError{StagePath, who, fmt.Errorf("write CONNECT: %w", err)}
	default:
		return &stageError{StageHandshake, who, timedOut(err, "the TLS handshake was not answered", start)}
	}
	state := over.ConnectionState()
	if len(state.PeerCertificates) > 0 {
		if peer := state.PeerCertificates[0].NotAfter; peer.Before(ends) {
			ends = peer
		}
	}
	left := time.Until(ends)
	c.expires = h.service.shared.now().add(left - min(expiryMargin, left/10))
	c.refreshAt.Store(int64(h.service.shared.now().add(left - min(2*expiryMargin, left/4))))
	id, err := identity.PeerID(state)
	if err != nil {
		return &stageError{StageHandshake, who, err}
	}
	h.service.shared.renewals.Seen(state)
	c.Conn, c.Peer, c.Cluster, c.Instance, c.program = over, id.String(), who.Cluster, who.Name, id.IsGateway()
	if path != nil {
		c.weight = path.who.Weight
	}
	return nil
}

// timedOut gives a timeout the words that an operator can use.
func timedOut(err error, what string, start time.Time) error {
	if connect.IsTimeout(err) {
		return fmt.Errorf("%s within %v: is the process there frozen or overloaded? %w", what, time.Since(start).Round(time.Millisecond), err)
	}
	return err
}

// exclusions returns who shall not serve: our own cluster, whose endpoints we
// dial ourselves, and instances that failed.
func exclusions(own, pinned mesh.ClusterName, avoid []connect.Instance) []connect.Instance {
	all := make([]connect.Instance, 0, 1+min(len(avoid), maxExcluded))
	if own != "" && own != pinned {
		all = append(all, connect.Instance{Cluster: own})
	}
	for _, r := range avoid {
		if len(all) <= maxExcluded && !slices.Contains(all, r) {
			all = append(all, r)
		}
	}
	return all
}
