package dns

import (
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// names are the services that were asked for, each with when nobody needs to be
// subscribed to it any more.
type names struct {
	release func(mesh.Destination) // not nil; must not block

	mu    sync.Mutex
	until map[mesh.Destination]time.Time
	// undecided are those of until of which no gateway has said in time what they are, each
	// with when a question waits for that again. Nil until there is one.
	undecided map[mesh.Destination]time.Time
}

// waitsFor returns how long a question for d waits to be decided: not at all, when one has
// waited in vain a moment ago.
func (n *names) waitsFor(d mesh.Destination) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Now().Before(n.undecided[d]) {
		return 0
	}
	return inMeshLimit
}

// undecide says that a question for d has waited in vain.
func (n *names) undecide(d mesh.Destination) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.until[d]; !ok {
		return // it had to make room meanwhile
	}
	if n.undecided == nil {
		n.undecided = map[mesh.Destination]time.Time{}
	}
	n.undecided[d] = time.Now().Add(undecidedFor)
}

// asked remembers d for as long as a question for it may wait. Beyond maxNames the
// one that would go first goes now.
func (n *names) asked(d mesh.Destination) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if _, ok := n.until[d]; !ok && len(n.until) >= maxNames {
		var first mesh.Destination
		var at time.Time
		for d, t := range n.until {
			if at.IsZero() || t.Before(at) {
				first, at = d, t
			}
		}
		n.dropLocked(first)
	}
	if soonest := now.Add(forgetAbsent); n.until[d].Before(soonest) {
		n.until[d] = soonest
	}
}

// answered says for how long what d turned out to be is worth knowing.
func (n *names) answered(d mesh.Destination, after time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.until[d]; !ok {
		return // it had to make room meanwhile
	}
	n.until[d] = time.Now().Add(after)
}

// expire releases what nobody has asked for in time.
func (n *names) expire() {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	for d, t := range n.until {
		if !t.After(now) {
			n.dropLocked(d)
		}
	}
}

// dropLocked releases under the lock, so that a question that comes next asks after it.
func (n *names) dropLocked(d mesh.Destination) {
	delete(n.until, d)
	delete(n.undecided, d)
	n.release(d)
}

func (n *names) len() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.until)
}
