package xds

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// kind indexes the resource types that are served.
type kind int

const (
	clusters         kind = iota
	endpoints             // as configured: some have host names, which our sidecars resolve
	numericEndpoints      // with IP addresses only, which is all that Envoy takes
	rules                 // where requests go; those of some destinations depend on who asks
	policies              // who may call a service, for the workloads that serve it
	nothing               // every other type: nothing of it exists
	kinds
)

// kindOf returns the kind of a type URL. Of a type that we do not know, such as one
// of a newer Envoy, nothing exists either: that is no reason to end a stream on
// which other types come.
func kindOf(typeURL string, takesHostNames bool) kind {
	switch {
	case typeURL == xds.ClusterType:
		return clusters
	case typeURL == xds.EndpointType && takesHostNames:
		return endpoints
	case typeURL == xds.EndpointType:
		return numericEndpoints
	case typeURL == xds.RulesType:
		return rules
	case typeURL == xds.PolicyType:
		return policies
	}
	return nothing
}

// table is one publication: every resource that exists, by name. Its resources
// are shared by all responses and never change.
type table [kinds]map[string]*discoveryv3.Resource

// known is what is known of one type at one moment.
type known struct {
	resources map[string]*discoveryv3.Resource
	complete  bool // what is not among them does not exist
	answers   bool // a request that acknowledges nothing is answered, if only with nothing
	now       time.Time
}

// cache holds the current table and knows which open watch waits for which name.
type cache struct {
	remembered func(identity string) []string
	hosts      *hosts
	metrics    *metrics

	// changed serializes replace, so that encoding needs no lock of the readers'.
	changed sync.Mutex
	routes  map[string]*mesh.Route // what the table was encoded from; guarded by changed
	named   map[string]bool        // those of them with host names; guarded by changed
	sets    map[string]*policy.Set // likewise; guarded by changed

	mu       sync.Mutex
	ready    bool // a first table was published
	complete bool // what is not in the table does not exist
	table    table
	own      ownRules                              // in place of the table's
	backends map[string][]string                   // of destinations with rules: see backendsOf
	servers  map[string]servers                    // whom the table's policies are for, by name
	watches  [kinds]map[string]map[*watch]struct{} // open watches by each name they are about
	wildcard map[string]map[*watch]struct{}        // open wildcard watches by identity
}

func newCache(remembered func(identity string) []string, h *hosts, m *metrics) *cache {
	c := &cache{
		remembered: remembered,
		hosts:      h,
		metrics:    m,
		wildcard:   map[string]map[*watch]struct{}{},
	}
	for k := range kinds {
		c.table[k] = map[string]*discoveryv3.Resource{}
		c.watches[k] = map[string]map[*watch]struct{}{}
	}
	return c
}

// replace makes routes the whole set, complete or not, and tells whom it concerns. A route that
// cannot be encoded keeps its last good resources; the error joins all such.
func (c *cache) replace(routes []*mesh.Route, complete bool) error {
	c.changed.Lock()
	defer c.changed.Unlock()
	c.mu.Lock()
	old := c.table
	c.mu.Unlock()

	sources := make(map[string]*mesh.Route, len(routes))
	for _, r := range routes {
		sources[r.Destination.String()] = r
	}
	next, own, err := c.encode(sources, old)
	c.routes = sources
	changed := changedNames(old, next)
	changed[rules] = append(changed[rules], c.changedOwn(own)...)
	backends := map[string][]string{}
	for name, r := range sources {
		if of := backendsOf(r); len(of) > 0 {
			backends[name] = of
		}
	}
	c.apply(next, own, complete, changed)
	c.lead(backends)
	return err
}

// encode returns the table of routes. A route that says the same as in the set
// before is not encoded again, unless it has host names, and what is the same
// resource as in old is the very one.
func (c *cache) encode(routes map[string]*mesh.Route, old table) (next table, own ownRules, err error) {
	own = ownRules{}
	named, names := map[string]bool{}, map[string]struct{}{}
	for name, r := range routes {
		if was := c.routes[name]; was != nil && was.Equal(r) && !c.named[name] {
			continue
		}
		if hostNamesOf(r, names) {
			named[name] = true
		}
	}
	c.named = named
	c.hosts.use(names)
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
				fresh[clusters], fresh[endpoints], fresh[numericEndpoints] = encoded.Cluster, encoded.Endpoints, encoded.Endpoints
				fresh[rules] = encoded.Rules
				own.put(name, encoded.Own, c.own)
			}
		} else if len(r.ByNamespace) > 0 {
			own.keep(name, c.own)
		}
		if named[name] {
			resolved := *r
			resolved.Local, resolved.Gateways = c.hosts.numeric(r.Local), c.hosts.numeric(r.Gateways)
			encoded, err := xds.EncodeEndpoints(&resolved)
			if err != nil {
				faults = append(faults, fmt.Errorf("route %s: %w", name, err))
			}
			fresh[numericEndpoints] = encoded // nil with an error
		}
		for k := range kinds {
			last, now := old[k][name], fresh[k]
			if now == nil || last != nil && last.Version == now.Version {
				now = last
			}
			if k == rules && !xds.NeedsRules(r) {
				now = nil
			}
			if now != nil {
				next[k][name] = now
			}
		}
	}
	next[policies] = old[policies]
	return next, own, errors.Join(faults...)
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
// clusters before endpoints, as Envoy wants them. All are answered when the table is
// complete at last.
func (c *cache) apply(next table, own ownRules, complete bool, changed [kinds][]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	completed := complete && !c.complete && c.ready
	c.table, c.own, c.complete, c.ready = next, own, complete, true
	c.metrics.publishes.Inc()
	c.metrics.resources.Set(float64(len(next[clusters]) + len(next[endpoints])))
	for k := range kinds {
		waiting := map[*watch]struct{}{}
		for _, name := range changed[k] {
			for w := range c.watches[k][name] {
				waiting[w] = struct{}{}
			}
		}
		if completed {
			c.allLocked(k, waiting)
		}
		for w := range waiting {
			c.answerLocked(w)
		}
	}
}

// allLocked adds every open watch of a kind to all.
func (c *cache) allLocked(k kind, all map[*watch]struct{}) {
	for _, watches := range c.watches[k] {
		maps.Copy(all, watches)
	}
	for _, watches := range c.wildcard {
		for w := range watches {
			if w.kind == k {
				all[w] = struct{}{}
			}
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
	w.names = w.scope(c.rememberedLocked)
	if c.answerLocked(w) {
		return
	}
	if wait, ok := w.doubts().wait(time.Now()); ok && w.retry == nil {
		w.retry = time.AfterFunc(wait, func() { c.retry(w) })
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

// retry answers w with a part of what its client has refused, when that has waited
// for long enough, or with what there was no room for.
func (c *cache) retry(w *watch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !w.ended {
		c.unindexLocked(w)
		c.openLocked(w)
	}
}

// answer takes what a stream says of a response. It returns the resource that its
// client cannot use, if that is known of one, and of how many the response consisted.
func (c *cache) answer(s *adsStream, k kind, nonce string, refused, whole bool) (bad string, of int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.countLocked(s)
	return s.doubts[k].answer(nonce, refused, whole, time.Now())
}

// leave forgets a stream that has no watches any more.
func (c *cache) leave(s *adsStream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.doubts = [kinds]doubts{}
	c.countLocked(s)
}

// countLocked counts the resources that are withheld from s.
func (c *cache) countLocked(s *adsStream) {
	n := 0
	for k := range s.doubts {
		n += s.doubts[k].bad()
	}
	c.metrics.withheld.Add(float64(n - s.withheld))
	s.withheld = n
}

// answerLocked sends w what it does not know yet and ends it: the protocol engine
// opens the next watch when the sidecar has answered. It reports false, and
// leaves w as it is, when w knows everything.
func (c *cache) answerLocked(w *watch) bool {
	if w.ended {
		return false
	}
	told, ok := w.diff(c.knownLocked(w))
	c.countLocked(w.stream)
	if !ok {
		return false
	}
	// The engine's channel has room for every type that Envoy knows. Should it fill,
	// the watch stays open, and is answered a moment later, rather than block the
	// publisher.
	if !w.send(told) {
		w.doubts().unsent(told.send)
		if w.retry == nil {
			w.retry = time.AfterFunc(sendPause, func() { c.retry(w) })
		}
		return false
	}
	w.doubts().send(w.nonce, told.send)
	w.ended = true
	c.metrics.responses.Inc()
	c.metrics.sent.Add(float64(len(told.send)))
	c.metrics.removed.Add(float64(len(told.removed)))
	c.unindexLocked(w)
	return true
}

// knownLocked returns what w may be told of. Policies are for those who serve the
// service only, and none is ever said to be absent: who serves has one, if only the
// default.
func (c *cache) knownLocked(w *watch) known {
	if w.kind != policies {
		complete := c.complete || w.kind == nothing
		resources := c.table[w.kind]
		if own := c.own[w.stream.id.Namespace]; w.kind == rules && own != nil {
			resources = own.over(resources, w.names)
		}
		return known{resources, complete, complete, time.Now()}
	}
	own := map[string]*discoveryv3.Resource{}
	for _, name := range w.names {
		if r := c.table[policies][name]; r != nil && c.servers[name].has(w.stream.id) {
			own[name] = r
		}
	}
	return known{own, false, true, time.Now()}
}

// unindexLocked takes w out of every index, and its timer with it.
func (c *cache) unindexLocked(w *watch) {
	if w.retry != nil {
		w.retry.Stop()
		w.retry = nil
	}
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
