package exchange

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// errStill is why a relayed connection was reset.
var errStill = errors.New("the host is out of service and stands still: is the process or its machine frozen?")

// Relays are the connections that are relayed, TCP and upgraded ones: nothing but a look
// at their hosts tells of one that stands still. The zero value is ready; its methods
// may be called concurrently.
type Relays struct {
	mu   sync.Mutex
	open map[*Client]*upstream.Lease
}

// Add notes that c is relayed to lease's host, until Remove. It ends when that host is
// trusted no more.
func (r *Relays) Add(c *Client, lease *upstream.Lease) {
	if cs, trusts, ok := lease.Proof(); ok && c.Open != nil {
		c.Open.Proved(cs, trusts)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = make(map[*Client]*upstream.Lease)
	}
	copied := *lease
	r.open[c] = &copied
}

// Remove undoes Add.
func (r *Relays) Remove(c *Client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
}

// Watch resets what is relayed to hosts that stand still, and sees that the others learn
// of renewed certificates, until ctx ends.
func (r *Relays) Watch(ctx context.Context) {
	tick := time.NewTicker(lookAfter)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r.mu.Lock()
		open := maps.Clone(r.open)
		r.mu.Unlock()
		for c, lease := range open {
			lease.Refresh()
			if h := lease.Host(); h.OutOfService() && h.Frozen(ctx) || lease.MachineGone() {
				r.cut(c, lease)
			}
		}
	}
}

// cut ends what c is relayed to, if it still is.
func (r *Relays) cut(c *Client, lease *upstream.Lease) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open[c] == lease {
		lease.Cut()
		c.End(errStill)
	}
}
