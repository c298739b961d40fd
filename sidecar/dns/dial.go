package dns

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/state"
)

// dial opens a socket to a server. When there is no descriptor, clients' connections
// that are idle go first; without any, it fails at once.
func (s *Server) dial(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Timeout: dialLimit}
	conn, err := d.DialContext(ctx, network, server.String())
	if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
		return conn, err
	}
	s.shortage.report(s.log, err)
	if s.conns.Shed() == 0 || !state.Pause(ctx, shedPause) {
		return nil, err
	}
	return d.DialContext(ctx, network, server.String())
}

// shortage counts the questions that found no descriptor, and logs the first and then one
// line a minute. The zero value is ready; report may be called concurrently.
type shortage struct {
	mu     sync.Mutex
	logged time.Time
	failed int // since logged
}

func (s *shortage) report(log *slog.Logger, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed++
	if now := time.Now(); now.Sub(s.logged) >= shortageInterval {
		log.Warn("no descriptors for dns questions: raise the limit of open files if this persists", "failed", s.failed, "err", err)
		s.logged, s.failed = now, 0
	}
}
