package routes

import (
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/traffic"
)

// Table is what a sidecar may dial, at one moment. It never changes; the zero
// value is empty.
type Table struct {
	routes   map[mesh.Destination]*mesh.Route
	absent   map[mesh.Destination]struct{}
	rules    map[mesh.Destination]*traffic.Rules // of the routes that have some
	headless []*mesh.Route
	direct   map[netip.AddrPort]Direct // nil: no route says any
}

// NewTable makes a table of routes, and of destinations that are known not to
// exist. A destination in both has a route; of two routes for one destination
// the later counts.
func NewTable(routes []*mesh.Route, absent []mesh.Destination) *Table {
	return new(Table).next(routes, absent)
}

// next makes a table that follows t. The rules of a route that is the very one in t are not
// compiled again.
func (before *Table) next(routes []*mesh.Route, absent []mesh.Destination) *Table {
	t := &Table{
		routes: make(map[mesh.Destination]*mesh.Route, len(routes)),
		absent: make(map[mesh.Destination]struct{}, len(absent)),
		rules:  map[mesh.Destination]*traffic.Rules{},
	}
	for _, r := range routes {
		d := r.Destination
		t.routes[d] = r
		t.addDirect(r)
		delete(t.rules, d)
		switch {
		case r.Rules == nil:
		case before.routes[d] == r:
			t.rules[d] = before.rules[d]
		default:
			rules, err := traffic.Compile(r.Rules)
			if err != nil { // package xds has looked; whatever it is, it must not be as without rules
				rules = &traffic.Rules{}
			}
			t.rules[d] = rules
		}
	}
	for _, d := range absent {
		if _, ok := t.routes[d]; !ok {
			t.absent[d] = struct{}{}
		}
	}
	return t
}

// Lookup returns the route for d.
func (t *Table) Lookup(d mesh.Destination) (*mesh.Route, bool) {
	r, ok := t.routes[d]
	return r, ok
}

// Rules returns the rules of the route for d; nil: it has none.
func (t *Table) Rules(d mesh.Destination) *traffic.Rules {
	if len(t.rules) == 0 {
		return nil
	}
	return t.rules[d]
}

// Absent reports whether the control plane has said that d does not exist.
// A destination that is neither absent nor routed is unknown.
func (t *Table) Absent(d mesh.Destination) bool {
	_, ok := t.absent[d]
	return ok
}
