package upstream

import (
	"crypto/tls"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Cluster is everybody who serves one destination, as one sidecar sees it. Its
// methods may be called concurrently. After its route is gone it has no hosts.
type Cluster struct {
	env    *env
	dest   mesh.Destination // zero: static
	meters *meters
	budget budget
	far    remotes
	state  atomic.Pointer[state]
	plan   atomic.Pointer[plan]

	mu      sync.Mutex // guards what follows, and every host's guarded fields
	route   *mesh.Route
	hosts   map[hostKey]*Host
	created instant
	share   ramp
}

// plan is how connections are made. It never changes.
type plan struct {
	protocol   mesh.Protocol
	identities []string
	tls        *tls.Config // nil: no identity of our own, plain endpoints only
}

func newCluster(env *env, dest mesh.Destination, label string) *Cluster {
	c := &Cluster{
		env:     env,
		dest:    dest,
		meters:  env.metrics.resolve(label),
		hosts:   make(map[hostKey]*Host),
		created: env.now(),
	}
	c.plan.Store(&plan{})
	c.state.Store(&state{share: fixed(1)})
	return c
}

// Static returns a cluster of one plain endpoint that is always ready: the
// program beside the sidecar. It is the caller's to [Cluster.Close].
func Static(cfg Config, addr string) *Cluster {
	c := newCluster(newEnv(cfg), mesh.Destination{}, "program")
	c.update(&mesh.Route{Local: []mesh.Endpoint{{Instance: addr, Address: addr, Ready: true, Weight: 1}}})
	return c
}

// Protocol returns the protocol of the route, empty for a static cluster.
func (c *Cluster) Protocol() mesh.Protocol { return c.plan.Load().protocol }

// Begin counts a request, once however often it is tried: it earns part of a retry.
func (c *Cluster) Begin() { c.budget.request(c.env.now()) }

// Retry asks for a retry of a request that may have reached an application and
// spends the retry budget: 20 % of the requests of the last 10 s, and at least
// 10 a second. An attempt that reached nobody needs no leave: it cost nobody
// anything, and the number of attempts is bounded.
func (c *Cluster) Retry() bool {
	if c.budget.retry(c.env.now()) {
		return true
	}
	c.meters.retriesDenied.Inc()
	return false
}

// Pick chooses the host of t's next attempt and notes it in t. It gives false
// when nobody is ready, when everybody who is has been tried, and after 8
// attempts. It never blocks on anything but short critical sections.
//
// Each host that it gives needs exactly one [Host.Done].
func (c *Cluster) Pick(t *Try) (*Host, bool) {
	return c.pick(c.env.now(), t)
}

func (c *Cluster) pick(now instant, t *Try) (*Host, bool) {
	if t.attempts >= maxAttempts {
		return nil, false
	}
	h := c.state.Load().choose(now, t)
	if h == nil {
		return nil, false
	}
	h.active.Add(1)
	t.add(h)
	return h, true
}

// update makes route the cluster's whole state. Hosts that stay keep their
// connections and history.
func (c *Cluster) update(route *mesh.Route) {
	c.mu.Lock()
	if route == c.route {
		c.mu.Unlock()
		return
	}
	now := c.env.now()
	c.route = route
	before := c.plan.Load()
	plan := c.planLocked(before, route)
	gone := c.hosts
	c.hosts = make(map[hostKey]*Host, len(route.Local)+len(route.Gateways))
	c.adoptLocked(gone, route.Local, false, now)
	c.adoptLocked(gone, route.Gateways, true, now)
	for _, h := range gone {
		h.ready = false
		h.mirrorLocked()
	}
	c.rebuildLocked(now)
	kept := make([]*Host, 0, len(c.hosts))
	for _, h := range c.hosts {
		kept = append(kept, h)
	}
	c.mu.Unlock()

	// Outside of the lock: closing a TLS connection writes.
	for _, h := range gone {
		h.pool.close()
	}
	if plan != before {
		for _, h := range kept {
			h.pool.keep(plan)
		}
	}
}

// planLocked returns the plan for route: old, or a new one, which it publishes.
func (c *Cluster) planLocked(old *plan, route *mesh.Route) *plan {
	if old.protocol == route.Protocol && slices.Equal(old.identities, route.Identities) && (old.tls != nil || c.env.cfg.Identity == nil) {
		return old
	}
	p := &plan{protocol: route.Protocol, identities: route.Identities}
	if src := c.env.cfg.Identity; src != nil {
		p.tls = src.ClientTLS(c.dest.Service.Host(), identity.OneOf(route.Identities), route.Protocol.ALPN()...)
	}
	c.plan.Store(p)
	return p
}

// adoptLocked takes endpoints into c.hosts and those that stay out of old.
func (c *Cluster) adoptLocked(old map[hostKey]*Host, endpoints []mesh.Endpoint, gateway bool, now instant) {
	for _, ep := range endpoints {
		key := hostKey{addr: ep.Address, gateway: gateway, plain: ep.Identity == "" && !gateway}
		if !gateway {
			key.instance = ep.Instance
		}
		h, ok := old[key]
		if ok {
			delete(old, key)
		} else if h, ok = c.hosts[key]; !ok { // not a repetition
			h = newHost(c, key)
		}
		h.weight.Store(max(ep.Weight, 1))
		if ep.Ready && !h.ready {
			// The control plane says that it is back, and knows better than
			// our memory of its failures.
			h.outlier = outlier{}
			h.warmFrom(now)
		}
		h.ready = ep.Ready
		h.mirrorLocked()
		c.hosts[key] = h
	}
}

// young reports whether the cluster is so new that nothing comes "back" to it.
func (c *Cluster) young(now instant) bool { return now.since(c.created) < c.env.warmup }

// rebuildLocked publishes the state that follows from the hosts.
func (c *Cluster) rebuildLocked(now instant) {
	s := &state{warmup: c.env.warmup}
	for _, h := range c.hosts {
		t := &s.tiers[h.key.priority()]
		t.health.total++
		switch {
		case !h.ready:
		case h.outlier.ejected():
			t.ejected = append(t.ejected, h)
			s.ejected = true
		default:
			t.add(h)
			t.health.up++
			if from := instant(h.warm.Load()); from != 0 {
				s.warmUntil = max(s.warmUntil, from.add(c.env.warmup))
			}
		}
	}
	target := localShare(s.tiers[0].health, s.tiers[1].health)
	if s.tiers[0].health.up == 0 || s.tiers[1].health.up == 0 || c.young(now) {
		c.share = fixed(target) // there is nothing to choose between
	} else {
		c.share = c.share.toward(target, now, c.env.warmup)
	}
	s.share = c.share
	c.state.Store(s)
}

// Close closes the idle connections; busy ones finish and are then closed.
// Nobody is picked any more.
func (c *Cluster) Close() {
	c.update(&mesh.Route{Destination: c.dest})
	c.env.metrics.forget(c.meters)
}
