package upstream

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/liveness"
)

// stillness is what is known of whether a host stands still. The zero value knows
// nothing.
type stillness struct {
	mu     sync.Mutex // held while somebody finds out
	asked  instant
	frozen bool
}

// OutOfService reports whether the control plane has taken the host away or calls it
// unready, or nobody can connect to it. A host that drains is out of service, too, and
// still answers.
func (h *Host) OutOfService() bool { return h.doubtful.Load() }

// Frozen reports whether the process or the machine of a host that is out of service
// stands still: it takes no new connection and does not refuse it either. It asks, at
// most once a second, and may take as long as a connection.
func (h *Host) Frozen(ctx context.Context) bool {
	s, shared := &h.still, h.service.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := shared.now(); s.asked != 0 && now.since(s.asked) < askAgain {
		return s.frozen
	}
	began := time.Now()
	conn, err := h.connect(ctx, h.service.usual(), h.service.dest, nil, nil)
	if err == nil {
		_ = conn.Close()
	}
	took := time.Since(began)
	// One who has slept itself has proved nothing.
	s.frozen = connect.IsTimeout(err) && ctx.Err() == nil && took < openTimeout+max(h.service.connect, 0)+askAgain
	s.asked = shared.now()
	return s.frozen
}

// Host returns whom the attempt has asked.
func (l *Lease) Host() *Host { return l.host }

// errMachineGone is why a shared connection ends.
var errMachineGone = errors.New("the machine at the other end acknowledges nothing any more")

// MachineGone is [Conn.MachineGone]. A shared connection to such a machine ends at once, for
// all who use it.
func (l *Lease) MachineGone() bool {
	gone := l.Conn.MachineGone()
	if gone && l.stream != nil {
		l.mux.Abort(errMachineGone)
	}
	return gone
}

// MachineGone reports whether the host's machine acknowledges nothing any more of what
// was sent on the connection.
func (c *Conn) MachineGone() bool { return liveness.MachineGone(c.sock) }
