package tunnel

import (
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// use says whether a peer's death must be seen soon: paths lead to it or did a moment
// ago, or somebody doubts that it is alive. Its methods may be called by any goroutine.
type use struct {
	paths atomic.Int64 // that are open
	until atomic.Int64 // in use at least until then, in Unix nanoseconds
}

// extend has the peer count as in use for so long from now.
func (u *use) extend(d time.Duration) {
	for until := time.Now().Add(d).UnixNano(); ; {
		was := u.until.Load()
		if was >= until || u.until.CompareAndSwap(was, until) {
			return
		}
	}
}

func (u *use) busy(now time.Time) bool {
	return u.paths.Load() > 0 || now.UnixNano() < u.until.Load()
}

// CarriesPath says that the stream carries a path, or will in a moment. While one is
// open, and for a minute after, the death of the peer is seen within a second or so.
// Both ends must say so, each for itself.
func (s *Stream) CarriesPath() {
	if s.path.Swap(true) {
		return
	}
	s.conn.use.paths.Add(1)
	if s.ended.Load() {
		s.pathEnded()
	}
}

// pathEnded is called when the stream has ended, perhaps twice.
func (s *Stream) pathEnded() {
	if s.path.Load() && !s.pathOver.Swap(true) {
		s.conn.use.extend(busyFor)
		s.conn.use.paths.Add(-1)
	}
}

// Doubt says that a gateway may be dead: for some seconds its tunnel finds that out as
// fast as if it carried paths.
func (n *Node) Doubt(gw mesh.GatewayID) {
	n.table.mu.Lock()
	defer n.table.mu.Unlock()
	if p, ok := n.table.peers[gw]; ok {
		p.use.extend(doubtFor)
	}
}
