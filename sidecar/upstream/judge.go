package upstream

import (
	"crypto/tls"
	"maps"
	"slices"
	"sync"
)

// connSet are connections that somebody has to find: those whose peers have proved who they
// are, idle or in use, from the handshake to Close or Abort; and those that are shared.
type connSet struct {
	mu   sync.Mutex
	open map[*Conn]struct{}
}

func (s *connSet) add(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[*Conn]struct{}{}
	}
	s.open[c] = struct{}{}
}

func (s *connSet) remove(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

func (s *connSet) all() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.open))
}

// Judge cuts the connections, idle or in use, to who would not be let in any more: what
// this process trusts has changed. That certificates have ended is for the pool, and for who
// uses a connection, to see.
func (s *Set) Judge() {
	for _, c := range s.shared.secured.all() {
		over, ok := c.Conn.(*tls.Conn)
		if !ok {
			continue
		}
		if err := s.shared.cfg.Identity.Trust().TrustsRenewed(over.ConnectionState(), c.dialConfig.policy); err != nil {
			s.shared.log.Info("ends a connection to who is not trusted any more", "peer_id", c.Peer, "err", err)
			_ = c.Abort() // it is over for us, whatever it says
		}
	}
}
