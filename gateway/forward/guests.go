package forward

import (
	"container/list"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// guest is a path of another cluster, which came through a tunnel. Strangers at the mesh
// ports of that cluster's gateways can ask for such paths, and prove nothing. So when a
// cluster has as many as it may, the oldest of its paths that proved nothing yet gives its
// place to the new one (see unproved). All its gateways' paths count together: which of
// them the strangers chose does not matter.
type guest struct {
	of      *paths
	cluster mesh.ClusterName
	end     func() // cuts the path; called once at most, without a lock

	// Guarded by of.mu.
	doubted *list.Element // of of.doubted[cluster]; nil: proved or cut
	cut     bool          // its place is another's, and it counts in of.yielding
}

// receive counts a path of another cluster, which end cuts, and returns nil when there
// is no place for it. [guest.leave] must follow.
func (p *paths) receive(cluster mesh.ClusterName, end func()) *guest {
	g := &guest{of: p, cluster: cluster, end: end}
	p.mu.Lock()
	doubted := p.doubted[cluster]
	if doubted == nil {
		doubted = list.New()
	}
	var victim *guest
	most := p.total - p.total/shareReserve
	if h := (holder{cluster: cluster}); p.here+p.there >= p.total || p.held[h] >= most-p.there {
		if doubted.Len() == 0 || p.yielding >= maxYielding {
			p.mu.Unlock()
			return nil
		}
		victim = doubted.Remove(doubted.Front()).(*guest)
		victim.doubted, victim.cut = nil, true
		p.yielding++
	} else {
		p.there++
		p.held[h]++
	}
	g.doubted = doubted.PushBack(g)
	p.doubted[cluster] = doubted
	p.mu.Unlock()
	if victim != nil {
		victim.end()
	}
	return g
}

// proved says that the client has proved who it is: its path is not cut any more.
func (g *guest) proved() {
	g.of.mu.Lock()
	defer g.of.mu.Unlock()
	g.provedLocked()
}

func (g *guest) provedLocked() {
	if g.doubted == nil {
		return
	}
	doubted := g.of.doubted[g.cluster]
	doubted.Remove(g.doubted)
	if g.doubted = nil; doubted.Len() == 0 {
		delete(g.of.doubted, g.cluster)
	}
}

// leave says that the path has ended.
func (g *guest) leave() {
	p := g.of
	p.mu.Lock()
	defer p.mu.Unlock()
	g.provedLocked()
	if g.cut {
		p.yielding--
		return
	}
	p.there--
	p.freeLocked(holder{cluster: g.cluster})
}
