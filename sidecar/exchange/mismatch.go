package exchange

import (
	"errors"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http1"
)

// mismatchPause is how long a listener says nothing more of clients that speak
// another protocol: such a client tries again and again.
const mismatchPause = time.Minute

// mismatch remembers the clients of one listener that speak another protocol than is
// declared. The zero value is ready; it may be used concurrently.
type mismatch struct {
	mu    sync.Mutex
	said  time.Time // zero: never
	count int       // clients since
}

// add counts a client and returns how many there were since the last line, or 0 when
// it is too early for another.
func (m *mismatch) add(now time.Time) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count++
	if !m.said.IsZero() && now.Sub(m.said) < mismatchPause {
		return 0
	}
	n := m.count
	m.said, m.count = now, 0
	return n
}

// recordMismatch tells the operator what to declare when err is another protocol by its
// first bytes.
func (s *Server) recordMismatch(err error) {
	speaks := ""
	switch {
	case errors.Is(err, http1.ErrHTTP2):
		speaks = "HTTP/2"
	case errors.Is(err, http1.ErrTLS):
		speaks = "TLS"
	default:
		return
	}
	if n := s.mismatch.add(time.Now()); n > 0 {
		s.Log.Info("clients speak "+speaks+" where http is declared, which is HTTP/1.1 here: declare protocol: tcp for this service",
			"protocol", speaks, "refused", n)
	}
}
