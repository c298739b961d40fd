package drain

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ErrAborted is why an entry ended that did not end by itself in time.
var ErrAborted = errors.New("cut: the process ends and the drain time is over")

// ErrShed is why an idle entry ended while descriptors were short.
var ErrShed = errors.New("cut while idle: the process is out of file descriptors")

// Set is what one part has open. Its methods may be called concurrently.
type Set struct {
	// grace is until when what is idle may still find work; nil until a drain begins.
	grace   atomic.Pointer[time.Time]
	running sync.WaitGroup // goroutines of Accept

	mu    sync.Mutex
	open  map[*Entry]struct{}
	empty chan struct{} // closed once draining and nothing is open
}

// NewSet returns an empty set.
func NewSet() *Set {
	return &Set{open: make(map[*Entry]struct{}), empty: make(chan struct{})}
}

// Entry is one thing that is open.
type Entry struct {
	set         *Set
	end         func(cause error)
	setDeadline func(time.Time) error // nil: it is never idle

	mu     sync.Mutex
	begins func()    // nil: nobody asked
	idle   bool      // waits for work
	since  time.Time // while idle
	proved *proof    // nil: the peer has proved nothing
}

// Add tracks something that end ends: at once, without waiting, and harmlessly
// when it has ended before; cause says why. setDeadline sets the read deadline of
// what may wait for work ([Entry.Waiting]); nil: that does not wait. Add returns
// nil when a drain has begun; otherwise one [Entry.Remove] must follow.
func (s *Set) Add(end func(cause error), setDeadline func(time.Time) error) *Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Draining() {
		return nil
	}
	e := &Entry{set: s, end: end, setDeadline: setDeadline}
	s.open[e] = struct{}{}
	return e
}

// Remove says that the entry has ended. Further calls do nothing.
func (e *Entry) Remove() {
	s := e.set
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.open[e]; !ok {
		return
	}
	delete(s.open, e)
	if s.Draining() && len(s.open) == 0 {
		close(s.empty)
	}
}

// Waiting says that the entry waits for work and until when it may, and sets that
// read deadline: it is what a drain shortens.
func (e *Entry) Waiting(until time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.idle, e.since = true, time.Now()
	if g := e.set.grace.Load(); g != nil && g.Before(until) {
		until = *g
	}
	_ = e.setDeadline(until) // a closed connection says so on Read
}

// StillWaiting is [Entry.Waiting] from now on until the deadline that it set last, which holds
// still: to move one costs a timer. It reports false, and does nothing, when a drain has begun.
func (e *Entry) StillWaiting(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.set.Draining() {
		return false
	}
	e.idle, e.since = true, now
	return true
}

// OnDrain has f called when a drain begins; at once if it has. f must not wait, nor call
// the set.
func (e *Entry) OnDrain(f func()) {
	e.mu.Lock()
	e.begins = f
	e.mu.Unlock()
	if e.set.Draining() {
		f()
	}
}

// Busy says that the entry does not wait any more.
func (e *Entry) Busy() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.idle = false
}

// Len returns how many entries are open.
func (s *Set) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// Draining reports whether entries end with the work they have.
func (s *Set) Draining() bool { return s.grace.Load() != nil }

// Drain lets nothing new in and ends what is idle at grace. The channel closes when
// nothing is open.
func (s *Set) Drain(grace time.Time) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.grace.CompareAndSwap(nil, &grace) {
		return s.empty
	}
	for e := range s.open {
		e.mu.Lock()
		if e.idle {
			_ = e.setDeadline(grace)
		}
		begins := e.begins
		e.mu.Unlock()
		if begins != nil {
			begins()
		}
	}
	if len(s.open) == 0 {
		close(s.empty)
	}
	return s.empty
}

// Abort ends every entry now.
func (s *Set) Abort() {
	for _, e := range s.entries() {
		e.end(ErrAborted)
	}
}

// Shed ends the half of the idle entries that have waited longest, and returns how
// many these are.
func (s *Set) Shed() int {
	type waiting struct {
		e     *Entry
		since time.Time
	}
	var idle []waiting
	for _, e := range s.entries() {
		e.mu.Lock()
		if e.idle {
			idle = append(idle, waiting{e, e.since})
		}
		e.mu.Unlock()
	}
	slices.SortFunc(idle, func(a, b waiting) int { return cmp.Compare(a.since.UnixNano(), b.since.UnixNano()) })
	idle = idle[:(len(idle)+1)/2]
	for _, w := range idle {
		w.e.end(ErrShed)
	}
	return len(idle)
}

// Wait returns when no goroutine of [Set.Accept] runs any more. Accept itself must
// have returned.
func (s *Set) Wait() { s.running.Wait() }

// entries returns what is open. What is done to it may not hold the lock: an end
// can call Remove.
func (s *Set) entries() []*Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Entry, 0, len(s.open))
	for e := range s.open {
		all = append(all, e)
	}
	return all
}
