package gateway

import (
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// rememberFor is how long what was offered lately is unavailable rather than absent
// when nobody offers it any more: longer than a restart takes, of a program, a host or
// a cluster. It is not kept over a restart of the gateway.
const rememberFor = 10 * time.Minute

// maxGone bounds what is remembered, should services come and go all the time.
const maxGone = 10_000

// departed is what nobody offers any more, but somebody did lately. Its owner gives it
// the time.
type departed struct {
	offered map[mesh.Destination]*mesh.Route // of the last update
	gone    map[mesh.Destination]gone
}

// gone is one destination of them.
type gone struct {
	route *mesh.Route // with nobody in it
	since time.Time
}

// update takes the routes to all that is offered now. It returns them with those to
// what is gone, which lead to nobody, and how long it takes until the first of those
// is forgotten; 0: there is none.
func (d *departed) update(routes []*mesh.Route, now time.Time) (all []*mesh.Route, next time.Duration) {
	offered := make(map[mesh.Destination]*mesh.Route, len(routes))
	for _, r := range routes {
		offered[r.Destination] = r
		delete(d.gone, r.Destination)
	}
	for dest, r := range d.offered {
		if offered[dest] != nil {
			continue
		}
		if d.gone == nil {
			d.gone = map[mesh.Destination]gone{}
		}
		if len(d.gone) >= maxGone {
			break
		}
		d.gone[dest] = gone{&mesh.Route{Destination: dest, Protocol: r.Protocol, Ports: r.Ports, Identities: r.Identities}, now}
	}
	d.offered = offered
	all = routes[:len(routes):len(routes)]
	for dest, g := range d.gone {
		left := g.since.Add(rememberFor).Sub(now)
		if left <= 0 {
			delete(d.gone, dest)
			continue
		}
		all = append(all, g.route)
		if next == 0 || left < next {
			next = left
		}
	}
	return all, next
}

// destinations returns what is gone.
func (d *departed) destinations() map[mesh.Destination]struct{} {
	all := make(map[mesh.Destination]struct{}, len(d.gone))
	for dest := range d.gone {
		all[dest] = struct{}{}
	}
	return all
}
