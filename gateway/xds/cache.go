package xds

import (
	"errors"
	"fmt"
	"sync"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// kind indexes the resource types that are served.
type kind int

const (
	clusters kind = iota
	endpoints
	nothing // the types that Envoy may ask for and of which nothing exists
	kinds
)

// kindOf returns the kind of a type URL; false: no client of ours asks for it.
func kindOf(typeURL string) (kind, bool) {
	switch typeURL {
	case xds.ClusterType:
		return clusters, true
	case xds.EndpointType:
		return endpoints, true
	case resource.ListenerType, resource.RouteType, resource.ScopedRouteType, resource.VirtualHostType,
		resource.SecretType, resource.ExtensionConfigType, resource.RuntimeType:
		return nothing, true
	}
	return 0, false
}

// table is one publication: every resource that exists, by name. Its resources
// are shared by all responses and never change.
type table [kinds]map[string]*discoveryv3.Resource

// cache holds the current table and knows which open watch waits for which name.
type cache struct {
	remembered func(identity string) []string
	metrics    *metrics

	// changed serializes replace, so that encoding needs no lock of the readers'.
	changed sync.Mutex
	routes  map[string]*mesh.Route // what the table was encoded from; guarded by changed

	mu       sync.Mutex
	ready    bool // a first table was published
	table    table
	watches  [kinds]map[string]map[*watch]struct{} // open watches by each name they are about
	wildcard map[string]map[*watch]struct{}        // open wildcard watches by identity
}

func newCache(remembered func(identity string) []string, m *metrics) *cache {
	c := &cache{
		remembered: remembered,
		metrics:    m,
		wildcard:   map[string]map[*watch]struct{}{},
	}
	for k := range kinds {
		c.table[k] = map[string]*discoveryv3.Resource{}
		c.watches[k] = map[string]map[*watch]struct{}{}
	}
	return c
}

// replace makes routes the whole set, and tells whom it concerns. A route that
// cannot be encoded keeps its last good resources; the error joins all such.
func (c *cache) replace(routes []*mesh.Route) error {
	c.changed.Lock()
	defer c.changed.Unlock()
	c.mu.Lock()
	old := c.table
	c.mu.Unlock()

	sources := make(map[string]*mesh.Route, len(routes))
	for _, r := range routes {
		sources[r.Destination.String()] = r
	}
	next, err := c.encode(sources, old)
	c.routes = sources
	c.apply(next, changedNames(old, next))
	return err
}

// encode returns the table of routes. A route that says the same as in the set
// before is not encoded again, and what is the same resource as in old is the very
// one.
func (c *cache) encode(routes map[string]*mesh.Route, old table) (next table, err error) {
	for k := range kinds {
		next[k] = make(map[string]*discoveryv3.Resource, len(routes))
	}
	var faults []error
	for name, r := range routes {
		var fresh [kinds]*discoveryv3.Resource // nil: as before
		if was := c.routes[name]; was == nil || !was.Equal(r) || old[clusters][name] == nil {
			encoded, err := xds.Encode(r)
			if err != nil {
				faults = append(faults, fmt.Errorf("route %s: %w", name, err))
			} else {
				c.metrics.encoded.Add(2)
				fresh[clusters], fresh[endpoints] = encoded.Cluster, encoded.Endpoints
			}
		}
		for k := range kinds {
			last, now := old[k][name], fresh[k]
			if now == nil || last != nil && last.Version == now.Version {
				now = last
			}
			if now != nil {
				next[k][name] = now
			}
		}
	}
	return next, errors.Join(faults...)
}

// changedNames returns the names that are new, gone, or another resource in next.
func changedNames(old, next table) (changed [kinds][]string) {
	for k := range kinds {
		for name, r := range next[k] {
			if old[k][name] != r {
				changed[k] = append(changed[k], name)
			}
		}
		for name := range old[k] {
			if next[k][name] == nil {
				changed[k] = append(changed[k], name)
			}
		}
	}
	return changed
}

// apply swaps the table and answers the watches that wait for a changed name,
// clusters before endpoints, as Envoy wants them.
func (c *cache) apply(next table, changed [kinds][]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.table = next
	c.ready = true
	c.metrics.publishes.Inc()
	c.metrics.resources.Set(float64(len(next[clusters]) + len(next[endpoints])))
	for k := range kinds {
		waiting := map[*watch]struct{}{}
		for _, name := range changed[k] {
			for w := range c.watches[k][name] {
				waiting[w] = struct{}{}
			}
		}
		for w := range waiting {
			c.answerLocked(w)
		}
	}
}

// isReady reports whether a first table was published.
func (c *cache) isReady() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ready
}

// wake answers the wildcard watches of identity again, because what is
// remembered of it has grown.
func (c *cache) wake(identity string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.wildcard[identity] {
		c.unindexLocked(w)
		c.openLocked(w)
	}
}

// open answers w when there is something to say, and otherwise lets it wait. The
// function that it returns cancels w.
func (c *cache) open(w *watch) (cancel func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.openLocked(w)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.unindexLocked(w)
		w.ended = true
	}
}

// openLocked answers w when there is something to say, and otherwise lets it
// wait for a change of any name that it is about.
func (c *cache) openLocked(w *watch) {
	w.names = w.scope(c.remembered)
	if c.answerLocked(w) {
		return
	}
	for _, name := range w.names {
		set := c.watches[w.kind][name]
		if set == nil {
			set = map[*watch]struct{}{}
			c.watches[w.kind][name] = set
		}
		set[w] = struct{}{}
	}
	if w.sub.IsWildcard() {
		set := c.wildcard[w.stream.identity]
		if set == nil {
			set = map[*watch]struct{}{}
			c.wildcard[w.stream.identity] = set
		}
		set[w] = struct{}{}
	}
}

// answerLocked sends w what it does not know yet and ends it: the protocol engine
// opens the next watch when the sidecar has answered. It reports false, and
// leaves w as it is, when w knows everything.
func (c *cache) answerLocked(w *watch) bool {
	if w.ended {
		return false
	}
	told, ok := w.diff(c.table[w.kind])
	if !ok {
		return false
	}
	// The engine's channel has room for two per type and it drains the channel
	// before every request, so this never fills; should it, the watch stays open
	// rather than block the publisher.
	if !w.send(told) {
		return false
	}
	c.metrics.responses.Inc()
	c.metrics.sent.Add(float64(len(told.send)))
	c.metrics.removed.Add(float64(len(told.removed)))
	c.unindexLocked(w)
	return true
}

// unindexLocked takes w out of every index.
func (c *cache) unindexLocked(w *watch) {
	for _, name := range w.names {
		set := c.watches[w.kind][name]
		delete(set, w)
		if len(set) == 0 {
			delete(c.watches[w.kind], name)
		}
	}
	set := c.wildcard[w.stream.identity]
	delete(set, w)
	if len(set) == 0 {
		delete(c.wildcard, w.stream.identity)
	}
}
