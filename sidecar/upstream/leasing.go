package upstream

import (
	"context"
	"errors"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// shares reports whether requests of a may share connections to h.
func (h *Host) shares(config *dialConfig, a *Attempts) bool {
	switch {
	case a == nil || !a.streams || h.key.gateway || a.raw && config.protocol.IsHTTP():
		return false
	case config.protocol == mesh.Auto && !a.raw && !a.http2:
		return false // the far sidecar speaks to the program what its own caller speaks
	case h.key.plain:
		return wireOf(config.protocol, a) == wireHTTP2
	}
	return config.tls != nil
}

// lease returns what an attempt of a runs on. Its error is a [*ConnectError]: see get.
func (h *Host) lease(ctx context.Context, a *Attempts) (Lease, error) {
	if h.shares(h.service.dialConfig.Load(), a) {
		return h.sharing.lease(ctx, a)
	}
	return h.leaseExclusive(ctx, a)
}

// leaseExclusive leases a connection that nobody else uses meanwhile, or a stream of a path.
func (h *Host) leaseExclusive(ctx context.Context, a *Attempts) (Lease, error) {
	for {
		c, pooled, err := h.getOrOpen(ctx, a)
		if err != nil {
			return Lease{}, err
		}
		l := Lease{Conn: c, host: h, attempts: a}
		if c.mux == nil {
			return l, nil
		}
		l.began = a.moment(h.service.shared)
		l.stream, err = c.mux.Open()
		if err == nil {
			return l, nil
		}
		if c.instance != nil {
			c.instance.active.Add(-1)
		}
		h.pool.refused(c, errors.Is(err, streams.ErrFull))
		a.now = 0
		if !pooled {
			h.blame(h.service.shared.now(), a, c.remote(), suspected, err.Error())
			return Lease{}, h.connectError(StageHandshake, c, err)
		}
	}
}

// speakHTTP2 begins HTTP/2 on a new connection.
func (c *Conn) speakHTTP2(unread *streams.Unread, closed func()) {
	c.mux = streams.Client(c.Conn, streams.Config{Unread: unread, Closed: closed})
}

func (h *Host) connectError(stage Stage, c *Conn, err error) *ConnectError {
	e := &ConnectError{Destination: h.service.dest, Addr: h.key.addr, Gateway: h.key.gateway, Stage: stage, Err: err}
	if c != nil {
		e.Cluster, e.Instance = c.Cluster, c.Instance
	}
	return e
}

// leaseOrAdopt is leaseExclusive of a host that did not negotiate HTTP/2 before: a new
// connection may.
func (h *Host) leaseOrAdopt(ctx context.Context, a *Attempts) (Lease, error) {
	config := h.service.dialConfig.Load()
	if !a.fresh {
		if c := h.pool.take(h.service.shared.now(), config, a.once, false); c != nil {
			return Lease{Conn: h.reuse(c), host: h, attempts: a}, nil
		}
	}
	c, err := h.openWith(ctx, a, true)
	if err != nil {
		return Lease{}, err
	}
	if !c.http2(config, a) {
		return Lease{Conn: c, host: h, attempts: a}, nil
	}
	if c.instance != nil {
		c.instance.active.Add(-1)
		c.instance = nil
	}
	if err := h.sharing.begin(ctx, c); err != nil {
		return Lease{}, err
	}
	h.sharing.mu.Lock()
	h.sharing.exclusive = false
	h.sharing.mu.Unlock()
	return h.sharing.lease(ctx, a)
}
