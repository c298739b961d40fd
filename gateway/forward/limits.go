package forward

import (
	"container/list"
	"net"
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// holder is whose a path is: a source on the mesh port, or another cluster.
type holder struct {
	source  limit.Source
	cluster mesh.ClusterName // empty: this one
}

// paths counts the open paths and bounds them:
//
//   - all together, by the configuration and by what file descriptors allow;
//   - of these a quarter is kept for this cluster's callers, and a quarter for other
//     clusters;
//   - a source on the mesh port has its own bound, and when this cluster's callers have
//     all that they may, one that has few young paths gets the place of a young path of
//     who has most (see youngFor): anybody can ask for a path, and prove nothing;
//   - another cluster may have as many paths as are free for other clusters, see
//     [limit.Shares]: one that is alone has half of them, and there is something for
//     the next one at any time. See guest for who of them makes room.
type paths struct {
	mu               sync.Mutex
	perSource, total int
	held             map[holder]int                  // only those that hold paths
	here, there      int                             // of this cluster's callers, of other clusters
	doubted          map[mesh.ClusterName]*list.List // of *guest: the unproved, oldest first; none is empty
	yielding         int                             // guests that were cut and have not ended
}

func newPaths(perSource, total int) *paths {
	p := &paths{held: make(map[holder]int), doubted: make(map[mesh.ClusterName]*list.List)}
	p.set(perSource, total)
	return p
}

// set replaces the bounds. Paths beyond them go on.
func (p *paths) set(perSource, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.perSource, p.total = perSource, limit.Part(pathPart, total)
}

func (p *paths) bounds() (perSource, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.perSource, p.total
}

// take counts a path of a caller of this cluster. It reports whether the path is within
// the bounds; then release must follow. When there is no room it asks yield whether another
// one's path ends for this.
func (p *paths) take(source limit.Source, yield func() bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := holder{source: source}
	most := p.total - p.total/shareReserve // for either side
	full := p.here+p.there >= p.total || p.here >= most
	if p.held[h] >= p.perSource && source != (limit.Source{}) || full && (p.here >= most+maxYielding || !yield()) {
		return false
	}
	p.here++
	p.held[h]++
	return true
}

func (p *paths) release(source limit.Source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.here--
	p.freeLocked(holder{source: source})
}

func (p *paths) freeLocked(h holder) {
	if p.held[h]--; p.held[h] == 0 {
		delete(p.held, h)
	}
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
