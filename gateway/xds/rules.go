package xds

import (
	"maps"
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// ownRules are the rules for callers of a namespace, which they are told in place of those for
// everybody, by namespace and destination. It never changes once it is published.
type ownRules map[string]namedRules

// namedRules are rules by destination.
type namedRules map[string]*discoveryv3.Resource

// put takes what is encoded of a destination; what is the same resource as in old is the very one.
func (o ownRules) put(name string, encoded map[string]*discoveryv3.Resource, old ownRules) {
	for namespace, r := range encoded {
		if was := old[namespace][name]; was != nil && was.Version == r.Version {
			r = was
		}
		o.add(namespace, name, r)
	}
}

// keep takes what old has of a destination.
func (o ownRules) keep(name string, old ownRules) {
	for namespace, of := range old {
		if r := of[name]; r != nil {
			o.add(namespace, name, r)
		}
	}
}

func (o ownRules) add(namespace, name string, r *discoveryv3.Resource) {
	if o[namespace] == nil {
		o[namespace] = namedRules{}
	}
	o[namespace][name] = r
}

// over returns the rules of names: own ones where there are some, and else those of all.
func (n namedRules) over(all map[string]*discoveryv3.Resource, names []string) map[string]*discoveryv3.Resource {
	merged := make(map[string]*discoveryv3.Resource, len(names))
	for _, name := range names {
		if r := n[name]; r != nil {
			merged[name] = r
		} else if r := all[name]; r != nil {
			merged[name] = r
		}
	}
	return merged
}

// changedOwn returns the destinations whose rules for callers of some namespace are others in
// next.
func (c *cache) changedOwn(next ownRules) (changed []string) {
	for namespace, of := range next {
		for name, r := range of {
			if c.own[namespace][name] != r {
				changed = append(changed, name)
			}
		}
	}
	for namespace, of := range c.own {
		for name := range of {
			if next[namespace][name] == nil {
				changed = append(changed, name)
			}
		}
	}
	return changed
}

// backendsOf returns the destinations to which a route's rules lead, whoever calls.
func backendsOf(r *mesh.Route) (names []string) {
	add := func(rules []mesh.Rule) {
		for i := range rules {
			for _, b := range rules[i].Action.Backends {
				if b.Destination != (mesh.Destination{}) {
					names = append(names, b.Destination.String())
				}
			}
			for _, m := range rules[i].Action.Mirrors {
				names = append(names, m.Destination.String())
			}
		}
	}
	add(r.Rules)
	for _, rules := range r.ByNamespace {
		add(rules)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// lead makes backends those to which rules lead. Who asks for everything that it has used is
// told of them, too.
func (c *cache) lead(backends map[string][]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if maps.EqualFunc(c.backends, backends, slices.Equal) {
		return
	}
	c.backends = backends
	var all []*watch
	for _, watches := range c.wildcard {
		all = slices.AppendSeq(all, maps.Keys(watches))
	}
	for _, w := range all {
		c.unindexLocked(w)
		c.openLocked(w)
	}
}

// rememberedLocked returns what identity has asked for, and where the rules of that lead.
func (c *cache) rememberedLocked(identity string) []string {
	names := c.remembered(identity)
	if len(c.backends) == 0 {
		return names
	}
	for _, name := range names[:len(names):len(names)] {
		names = append(names, c.backends[name]...)
	}
	return names
}
