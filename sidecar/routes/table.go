package routes

import "github.com/isthmus-mesh/isthmus/internal/mesh"

// Table is what a sidecar may dial, at one moment. It never changes; the zero
// value is empty.
type Table struct {
	routes map[mesh.Destination]*mesh.Route
	absent map[mesh.Destination]struct{}
}

// NewTable makes a table of routes, and of destinations that are known not to
// exist. A destination in both has a route; of two routes for one destination
// the later counts.
func NewTable(routes []*mesh.Route, absent []mesh.Destination) *Table {
	t := &Table{
		routes: make(map[mesh.Destination]*mesh.Route, len(routes)),
		absent: make(map[mesh.Destination]struct{}, len(absent)),
	}
	for _, r := range routes {
		t.routes[r.Destination] = r
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

// Absent reports whether the control plane has said that d does not exist.
// A destination that is neither absent nor routed is unknown.
func (t *Table) Absent(d mesh.Destination) bool {
	_, ok := t.absent[d]
	return ok
}
