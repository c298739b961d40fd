package upstream

import (
	"crypto/tls"
	"sync"
)

// secured are the connections whose peers have proved who they are, idle or in use,
// from the handshake to Close or Abort.
type secured struct {
	mu   sync.Mutex
	open map[*Conn]struct{}
}

func (s *secured) add(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[*Conn]struct{}{}
	}
	s.open[c] = struct{}{}
}

func (s *secured) remove(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

// Judge cuts the connections, idle or in use, to who would not be let in any more: what
// this process trusts has changed. That certificates have ended is for the pool, and for who
// uses a connection, to see.
func (s *Set) Judge() {
	all := &s.shared.secured
	all.mu.Lock()
	conns := make([]*Conn, 0, len(all.open))
	for c := range all.open {
		conns = append(conns, c)
	}
	all.mu.Unlock()
	for _, c := range conns {
		over, ok := c.Conn.(*tls.Conn)
		if !ok {
			continue
		}
		if err := s.shared.cfg.Identity.TrustsRenewed(over.ConnectionState(), c.dialConfig.policy); err != nil {
			s.shared.log.Info("ends a connection to who is not trusted any more", "peer_id", c.Peer, "err", err)
			_ = c.Abort() // it is over for us, whatever it says
		}
	}
}
