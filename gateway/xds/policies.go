package xds

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// Policy is who may call a service, told to the workloads that serve it.
type Policy struct {
	Set *policy.Set
	// Accounts are the service accounts of the service's namespace that serve it.
	Accounts []string
}

// servers are the workloads that a policy is for. Their cluster is the gateway's: no
// others get through to it.
type servers struct {
	namespace string
	accounts  []string
}

func (s servers) has(id identity.ID) bool {
	return id.Namespace == s.namespace && slices.Contains(s.accounts, id.ServiceAccount)
}

// SetPolicies replaces all policies. It never blocks. What it does not name stays
// with those who were told of it. Nothing of all may be changed afterwards; a Set that
// is the very one of before is not encoded again.
func (s *Server) SetPolicies(all []Policy) { s.policies.Set(&all) }

// replacePolicies makes all the policies that there are and tells whom it concerns. One
// that cannot be encoded keeps its last good resource; the error joins all such.
func (c *cache) replacePolicies(all []Policy) error {
	c.changed.Lock()
	defer c.changed.Unlock()
	c.mu.Lock()
	old, had := c.table[policies], c.servers
	c.mu.Unlock()

	next := make(map[string]*discoveryv3.Resource, len(all))
	has, sets := make(map[string]servers, len(all)), make(map[string]*policy.Set, len(all))
	var faults []error
	for _, p := range all {
		name := p.Set.Service.String()
		has[name], sets[name] = servers{p.Set.Service.Namespace, p.Accounts}, p.Set
		r := old[name]
		if r == nil || c.sets[name] != p.Set {
			fresh, err := xds.EncodePolicy(p.Set)
			if err != nil {
				faults = append(faults, fmt.Errorf("policy of %s: %w", name, err))
				delete(sets, name)
			} else {
				c.metrics.encoded.Inc()
				if r == nil || r.Version != fresh.Version {
					r = fresh
				}
			}
		}
		if r != nil {
			next[name] = r
		}
	}
	c.sets = sets
	var changed []string
	for name, r := range next {
		if r != old[name] || !slices.Equal(has[name].accounts, had[name].accounts) {
			changed = append(changed, name)
		}
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	c.table[policies], c.servers = next, has
	waiting := map[*watch]struct{}{}
	for _, name := range changed {
		maps.Copy(waiting, c.watches[policies][name])
	}
	for w := range waiting {
		c.answerLocked(w)
	}
	return errors.Join(faults...)
}
