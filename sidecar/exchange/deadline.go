package exchange

import (
	"context"
	"sync"
	"time"
)

// deadline is the context of an exchange whose end is bounded. Most exchanges find a
// connection at once and never wait for their context: only who does makes the timer.
type deadline struct {
	context.Context // the session's
	end             time.Time

	mu     sync.Mutex
	waited context.Context // with the timer; nil: nobody has waited
	cancel context.CancelFunc
}

// Deadline returns the exchange's end.
func (d *deadline) Deadline() (time.Time, bool) { return d.end, true }

// Done returns a channel that closes at the exchange's end, or with the session.
func (d *deadline) Done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waited == nil {
		d.waited, d.cancel = context.WithDeadline(d.Context, d.end)
	}
	return d.waited.Done()
}

// Err says whether it is over.
func (d *deadline) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.waited != nil:
		return d.waited.Err()
	case !time.Now().Before(d.end):
		return context.DeadlineExceeded
	}
	return d.Context.Err()
}

// release ends the context, if anybody waits for it.
func (d *deadline) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waited != nil {
		d.cancel()
	}
}
