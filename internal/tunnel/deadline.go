package tunnel

import (
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// readDeadline is that of a stream. quic-go makes a timer for each Read that waits while it
// knows of a deadline, so it is told of one that has passed only. The methods may be called
// concurrently.
type readDeadline struct {
	mu    sync.Mutex
	at    time.Time   // zero: none
	timer *time.Timer // calls pass; nil until there is a deadline
	told  bool        // quic-go knows of it
}

// set has what reads from q fail from t on; zero: not.
func (d *readDeadline) set(q *quic.Stream, t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = t
	if d.timer != nil {
		d.timer.Stop()
	}
	if d.told {
		d.told = false
		if err := q.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
	}
	switch left := time.Until(t); {
	case t.IsZero():
	case left <= 0:
		d.told = true
		return q.SetReadDeadline(t)
	case d.timer == nil:
		d.timer = time.AfterFunc(left, func() { d.pass(q) })
	default:
		d.timer.Reset(left)
	}
	return nil
}

// pass tells quic-go if the deadline is still the one that the timer was set for.
func (d *readDeadline) pass(q *quic.Stream) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.at.IsZero() && !time.Now().Before(d.at) {
		d.told = true
		_ = q.SetReadDeadline(d.at) // a Read that fails otherwise is as good
	}
}
