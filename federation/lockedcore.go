package federation

import (
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// lockedCore is the core behind its lock, which nobody else takes. Its methods may be
// called concurrently.
type lockedCore struct {
	changed state.Notify // the core was told something

	mu       sync.Mutex // memberlist must not be called with it held: it calls back
	unlocked *core.Core
}

// apply tells the core what happened, and has [Federation.loop] look what follows.
func (l *lockedCore) apply(in core.Input) {
	l.mu.Lock()
	l.unlocked.Apply(time.Now(), in)
	l.mu.Unlock()
	l.changed.Notify()
}

// with calls f with the core, which f does not keep, and the lock held: f does not wait.
func (l *lockedCore) with(f func(c *core.Core)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l.unlocked)
}
