package routes

import (
	"cmp"
	"net/netip"
	"strconv"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Direct is whom an address of Kubernetes leads to that a program dials by itself, without a name
// of the mesh.
type Direct struct {
	Destination mesh.Destination
	// Instance alone is meant, that of a pod's own address; empty: the service, of a ClusterIP.
	Instance string
}

// Direct returns whom an address leads to, as far as routes have said it.
func (t *Table) Direct(to netip.AddrPort) (Direct, bool) {
	d, ok := t.direct[to]
	return d, ok
}

// DirectAddresses are the addresses of which Direct says something. They must not be changed.
func (t *Table) DirectAddresses() map[netip.AddrPort]Direct { return t.direct }

// Headless are the routes of headless services, by name. They must not be changed.
func (t *Table) Headless() []*mesh.Route { return t.headless }

// addDirect takes in what a route says.
func (t *Table) addDirect(r *mesh.Route) {
	if r.Headless {
		t.headless = append(t.headless, r)
	}
	for _, a := range r.Addresses {
		for _, p := range r.Ports {
			d := r.Destination
			d.Port = p.Number
			t.putDirect(netip.AddrPortFrom(a, p.Number), Direct{Destination: d})
		}
	}
	for i := range r.Local {
		e := &r.Local[i]
		if e.Target == 0 {
			continue
		}
		if at, err := netip.ParseAddrPort(e.Address); err == nil {
			t.putDirect(netip.AddrPortFrom(at.Addr().Unmap(), e.Target), Direct{r.Destination, e.Instance})
		}
	}
}

// putDirect keeps one of several services that serve an address, always the same: the one pinned to
// the own cluster, and then the first by name.
func (t *Table) putDirect(at netip.AddrPort, d Direct) {
	if before, ok := t.direct[at]; ok && compareDirect(before, d) <= 0 {
		return
	}
	if t.direct == nil {
		t.direct = map[netip.AddrPort]Direct{}
	}
	t.direct[at] = d
}

func compareDirect(a, b Direct) int {
	free := func(d Direct) string { return strconv.FormatBool(d.Destination.Cluster == "") } // "false" comes first
	return cmp.Or(cmp.Compare(free(a), free(b)), a.Destination.Service.Compare(b.Destination.Service), cmp.Compare(a.Destination.Port, b.Destination.Port))
}
