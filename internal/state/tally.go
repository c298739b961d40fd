package state

import (
	"sync"
	"time"
)

// Tally counts what happens too often for a log line each. The zero value is ready; it
// may be used concurrently.
type Tally struct {
	mu    sync.Mutex
	said  time.Time // zero: never
	count int       // since
}

// Add counts one and returns how many there were since the last line, or 0 when less
// than pause has passed since that.
func (t *Tally) Add(now time.Time, pause time.Duration) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count++
	if !t.said.IsZero() && now.Sub(t.said) < pause {
		return 0
	}
	n := t.count
	t.said, t.count = now, 0
	return n
}
