package admin

import (
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/status"
)

// Readiness is a set of named conditions that must all hold for a process to be
// ready. A condition that held may cease to. The zero value has none and is
// ready. Safe for concurrent use.
type Readiness struct {
	mu         sync.Mutex
	conditions []namedCondition
}

type namedCondition struct {
	name   string
	reason func() string
}

// Require adds a condition that is asked for whenever readiness is: reason says
// why it does not hold, or "" when it does. It must not block.
func (r *Readiness) Require(name string, reason func() string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conditions = append(r.conditions, namedCondition{name, reason})
}

// Condition adds a condition that its owner sets. It does not hold at first,
// because of reason.
func (r *Readiness) Condition(name, reason string) *Condition {
	c := &Condition{reason: reason}
	r.Require(name, c.current)
	return c
}

// Unmet returns the conditions that do not hold now, in the order they were added.
func (r *Readiness) Unmet() []status.Condition {
	r.mu.Lock()
	conditions := r.conditions[:len(r.conditions):len(r.conditions)]
	r.mu.Unlock()
	var unmet []status.Condition
	for _, c := range conditions {
		if reason := c.reason(); reason != "" {
			unmet = append(unmet, status.Condition{Name: c.name, Reason: reason})
		}
	}
	return unmet
}

// Condition is one condition of a [Readiness]. Safe for concurrent use.
type Condition struct {
	mu     sync.Mutex
	reason string
}

// Set says why the condition does not hold, or "" that it does.
func (c *Condition) Set(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reason = reason
}

// Met says that the condition holds.
func (c *Condition) Met() { c.Set("") }

func (c *Condition) current() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}
