package upstream

import (
	"context"
	"time"
)

// refreshRetry is the pause between two attempts to refresh a connection.
const refreshRetry = time.Second

// Refresh sees that a connection which is in use may outlive the certificates that were
// shown on it: when one of them ends soon it shakes hands with who is at the other end
// anew, in the background and on a connection that is closed then. So both ends know that
// the other has renewed in time (see [identity.Renewals]), which TLS 1.3 cannot say on a
// connection that is open. It is cheap, and called again and again while the connection
// is in use.
func (c *Conn) Refresh() {
	due := c.refreshAt.Load()
	if due == 0 {
		return
	}
	shared := c.host.service.shared
	if now := shared.now(); now < instant(due) || !c.refreshAt.CompareAndSwap(due, int64(now.add(refreshRetry))) {
		return
	}
	shared.background.do(func(ctx context.Context) { c.host.pool.refresh(ctx, c) }) // without a place: the next time
}

// refresh is one attempt of [Conn.Refresh].
func (p *pool) refresh(ctx context.Context, c *Conn) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	h, who := p.host, c.remote()
	p.mu.Lock()
	held := p.instances.held(who)
	p.mu.Unlock()
	fresh, err := h.connect(ctx, h.service.usual(), h.service.dest, h.service.remotes.excluded(p.shared.now(), maxExcluded), held)
	if err != nil {
		p.shared.log.Debug("a connection in use was not refreshed", "service", h.service.label(), "host", h.key.addr, "err", err)
		return
	}
	if fresh.remote() == who {
		c.refreshAt.Store(fresh.refreshAt.Load())
	}
	_ = fresh.Close()
}
