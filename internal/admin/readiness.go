package admin

import (
	"slices"
	"sync"
)

// Readiness is a set of named tasks that a process must finish before it is
// ready. The zero value has no tasks and is ready. Safe for concurrent use.
type Readiness struct {
	mu      sync.Mutex
	pending []string
}

// Task adds a pending task. The returned function marks it done; calling it
// more than once is harmless.
func (r *Readiness) Task(name string) (done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = append(r.pending, name)
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if i := slices.Index(r.pending, name); i >= 0 {
			r.pending = slices.Delete(r.pending, i, i+1)
		}
	})
}

// Pending returns the tasks that are not done, in the order they were added.
func (r *Readiness) Pending() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.pending)
}
