package sidecar

import (
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// callers are who may call each service beside; nil in a store: that is not known yet. Its
// methods may be called concurrently.
type callers struct {
	mu     sync.Mutex
	byName map[mesh.ServiceName]*state.Store[*policy.Authorizer]
}

// of returns the store of a service.
func (c *callers) of(name mesh.ServiceName) *state.Store[*policy.Authorizer] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byName[name] == nil {
		if c.byName == nil {
			c.byName = map[mesh.ServiceName]*state.Store[*policy.Authorizer]{}
		}
		c.byName[name] = new(state.Store[*policy.Authorizer])
	}
	return c.byName[name]
}
