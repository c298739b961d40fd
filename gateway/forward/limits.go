package forward

import (
	"net"
	"net/netip"
	"sync"
)

// limits counts paths per source address and in total.
type limits struct {
	mu               sync.Mutex
	perSource, total int
	sources          map[netip.Addr]int // only sources that hold paths
	all              int
}

func newLimits(perSource, total int) *limits {
	return &limits{perSource: perSource, total: total, sources: make(map[netip.Addr]int)}
}

// set replaces the bounds. Paths beyond them go on.
func (l *limits) set(perSource, total int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.perSource, l.total = perSource, total
}

func (l *limits) bounds() (perSource, total int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.perSource, l.total
}

// take counts one path of source; the zero Addr is bound by the total only. It
// reports whether the path is within the bounds; then release must follow.
func (l *limits) take(source netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= l.total {
		return false
	}
	if source.IsValid() {
		if l.sources[source] >= l.perSource {
			return false
		}
		l.sources[source]++
	}
	l.all++
	return true
}

func (l *limits) release(source netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if source.IsValid() {
		if l.sources[source]--; l.sources[source] == 0 {
			delete(l.sources, source)
		}
	}
}

// sourceOf returns the address that paths from addr are counted under; the zero
// Addr when it is not an IP address.
func sourceOf(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// load counts the paths that run to each candidate, by [Candidate.Key].
type load struct {
	mu    sync.Mutex
	paths map[string]int // only those above 0
}

func newLoad() *load { return &load{paths: make(map[string]int)} }

func (l *load) of(key string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.paths[key]
}

func (l *load) add(key string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.paths[key] += n; l.paths[key] == 0 {
		delete(l.paths, key)
	}
}

// dials remembers the connections that this gateway made to endpoints. One that
// comes back in by the mesh port is a loop: an endpoint's address leads to the
// gateway itself. Both addresses count: the kernel may give two connections to
// different places the same local port.
type dials struct {
	mu    sync.Mutex
	conns map[string]struct{} // "local remote"
}

func newDials() *dials { return &dials{conns: make(map[string]struct{})} }

func (d *dials) add(c net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns[c.LocalAddr().String()+" "+c.RemoteAddr().String()] = struct{}{}
}

func (d *dials) remove(c net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c.LocalAddr().String()+" "+c.RemoteAddr().String())
}

// accepted reports whether c is the other end of one of them.
func (d *dials) accepted(c net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.conns[c.RemoteAddr().String()+" "+c.LocalAddr().String()]
	return ok
}
