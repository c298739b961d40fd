package exchange

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// errStill is why a relayed connection was reset.
var errStill = errors.New("the host is out of service and stands still: is the process or its machine frozen?")

// Relays are the connections that are relayed, TCP and upgraded ones: nothing but a look
// at their hosts tells of one that stands still. The zero value is ready; its methods
// may be called concurrently.
type Relays struct {
	mu   sync.Mutex
	open map[*Client]*relayed
}

// relayed is one of them.
type relayed struct {
	client *Client
	lease  upstream.Lease
	pair   *relay.Pair // nil: who relays looks after its idle timeout
}

// Add notes that c is relayed to lease's host, until Remove. It ends when that host is
// trusted no more. With a pair, which may not have begun, c's end and the idle timeout end that.
func (r *Relays) Add(c *Client, lease *upstream.Lease, pair *relay.Pair) {
	if pair != nil && !c.setHost(pair) {
		_ = pair.Abort()
	}
	if cs, trusts, ok := lease.Proof(); ok && c.Open != nil {
		c.Open.Proved(cs, trusts)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = make(map[*Client]*relayed)
	}
	r.open[c] = &relayed{c, *lease, pair}
}

// Remove undoes Add.
func (r *Relays) Remove(c *Client) {
	r.mu.Lock()
	of := r.open[c]
	delete(r.open, c)
	r.mu.Unlock()
	if of != nil && of.pair != nil {
		c.setHost(nil)
	}
}

// Watch resets what is relayed to hosts that stand still, or on which nothing moves, and sees
// that the others learn of renewed certificates, until ctx ends.
func (r *Relays) Watch(ctx context.Context) {
	tick := time.NewTicker(lookAfter)
	defer tick.Stop()
	var open []*relayed
	gone := make(map[*upstream.Conn]bool) // the machine at its other end
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		open = r.append(open[:0])
		now := time.Now()
		clear(gone)
		for _, of := range open {
			of.lease.Refresh()
			if _, looked := gone[of.lease.Conn]; !looked { // it may be shared, and a look costs a system call
				gone[of.lease.Conn] = of.lease.MachineGone()
			}
			if h := of.lease.Host(); h.OutOfService() && h.Frozen(ctx) || gone[of.lease.Conn] {
				r.cut(of)
			} else if of.pair != nil {
				of.pair.Look(now)
			}
		}
		clear(open)
	}
}

// append appends what is open.
func (r *Relays) append(all []*relayed) []*relayed {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, of := range r.open {
		all = append(all, of)
	}
	return all
}

// cut ends what is relayed, if it still is.
func (r *Relays) cut(of *relayed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open[of.client] == of {
		of.lease.Cut()
		of.client.End(errStill)
	}
}
