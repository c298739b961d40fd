package upstream

import (
	"crypto/tls"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Service is everybody who serves one destination, as one sidecar sees it. Its
// methods may be called concurrently. After its route is gone it has no hosts.
type Service struct {
	shared     *shared
	dest       mesh.Destination // zero: static
	connect    time.Duration    // bounds a TCP connect; negative: not
	metrics    *boundMetrics
	budget     budget
	remotes    remoteOutliers
	candidates atomic.Pointer[candidates]
	dialConfig atomic.Pointer[dialConfig]

	mu      sync.Mutex // guards what follows, and every host's guarded fields
	route   *mesh.Route
	hosts   map[hostKey]*Host
	created instant
	share   ramp
}

// dialConfig is how connections are made. It never changes.
type dialConfig struct {
	protocol   mesh.Protocol
	identities []string
	policy     identity.PeerPolicy   // who may answer
	tls        *tls.Config           // nil: no identity of our own, plain endpoints only
	asked      [wires][2]*tls.Config // of an `auto` service, and of connections that may be shared: see tlsFor
}

func newService(shared *shared, dest mesh.Destination, label string) *Service {
	s := &Service{
		shared:  shared,
		dest:    dest,
		metrics: shared.metrics.bind(label),
		hosts:   make(map[hostKey]*Host),
		created: shared.now(),
	}
	if shared.cfg.Connect != nil {
		s.connect = shared.cfg.Connect(dest)
	}
	if s.connect == 0 {
		s.connect = connectTimeout
	}
	s.dialConfig.Store(&dialConfig{})
	s.candidates.Store(&candidates{share: fixed(1)})
	return s
}

// Static returns a service of one plain endpoint that is always ready: the
// program beside the sidecar, which speaks protocol. It is the caller's to [Service.Close].
func Static(cfg Config, addr string, protocol mesh.Protocol) *Service {
	s := newService(newShared(cfg), mesh.Destination{}, "program")
	s.update(&mesh.Route{Protocol: protocol, Local: []mesh.Endpoint{{Instance: addr, Address: addr, Ready: true, Weight: 1}}})
	return s
}

// Protocol returns the protocol of the route, empty for a static service.
func (s *Service) Protocol() mesh.Protocol { return s.dialConfig.Load().protocol }

// spendRetry takes a retry out of the budget and reports whether there was one.
func (s *Service) spendRetry() bool {
	if s.budget.retry(s.shared.now()) {
		return true
	}
	s.metrics.retriesDenied().Inc()
	return false
}

// pickHost chooses the host of a's next attempt and notes it in a. It gives false when
// nobody is ready, and when everybody who is has been tried in this round. It never
// blocks on anything but short critical sections. Each host that it gives needs
// exactly one done.
func (s *Service) pickHost(now instant, a *Attempts) (*Host, bool) {
	if a.asked >= maxHosts {
		return nil, false
	}
	var h *Host
	if a.policy.Instance != "" {
		h = s.named(a)
	} else {
		c := s.candidates.Load()
		if a.asked == 0 {
			h = c.claimProbe(now)
		}
		if h == nil {
			h = c.choose(now, a)
		}
	}
	if h == nil {
		return nil, false
	}
	h.active.Add(1)
	a.addTried(h)
	return h, true
}

// named returns the host of the only instance that a asks, or nil when that was asked.
func (s *Service) named(a *Attempts) *Host {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, h := range s.hosts {
		if key.instance == a.policy.Instance && !key.gateway && !a.hasTried(h) {
			return h
		}
	}
	return nil
}

// update makes route the service's whole state. Hosts that stay keep their
// connections and history.
func (s *Service) update(route *mesh.Route) {
	s.mu.Lock()
	if route == s.route {
		s.mu.Unlock()
		return
	}
	now := s.shared.now()
	s.route = route
	before := s.dialConfig.Load()
	config := s.dialConfigLocked(before, route)
	gone := s.hosts
	s.hosts = make(map[hostKey]*Host, len(route.Local)+len(route.Gateways))
	s.adoptLocked(gone, route.Local, false, now)
	s.adoptLocked(gone, route.Gateways, true, now)
	for _, h := range gone {
		h.ready = false
		h.mirrorLocked()
	}
	s.rebuildLocked(now)
	kept := make([]*Host, 0, len(s.hosts))
	for _, h := range s.hosts {
		kept = append(kept, h)
	}
	s.mu.Unlock()

	// Outside of the lock: closing a TLS connection writes.
	for _, h := range gone {
		h.pool.close()
		h.sharing.close()
	}
	if config != before {
		for _, h := range kept {
			h.pool.closeUnfit(config)
			h.sharing.drainIf(func(c *Conn) bool { return !c.fits(config) })
		}
	}
}

// dialConfigLocked returns the configuration for route: old, or a new one, which it publishes.
func (s *Service) dialConfigLocked(old *dialConfig, route *mesh.Route) *dialConfig {
	if old.protocol == route.Protocol && slices.Equal(old.identities, route.Identities) && (old.tls != nil || s.shared.cfg.Identity == nil) {
		return old
	}
	config := &dialConfig{protocol: route.Protocol, identities: route.Identities}
	if src := s.shared.cfg.Identity; src != nil {
		config.policy = identity.Answers(s.dest, route.Identities) // the gateway that lists them is not the law
		name := mesh.Destination{Service: s.dest.Service, Port: s.dest.Port}.ServerName()
		config.tls = src.ClientTLS(name, config.policy, route.Protocol.ProgramALPN()...)
		for w := range config.asked {
			if usual := wireOf(route.Protocol, nil); route.Protocol != mesh.Auto && wire(w) != usual {
				continue
			}
			config.asked[w][0] = src.ClientTLS(name, config.policy, speech{wire: wire(w)}.offers()...)
			config.asked[w][1] = src.ClientTLS(name, config.policy, speech{wire: wire(w), share: true}.offers()...)
		}
	}
	s.dialConfig.Store(config)
	return config
}

// adoptLocked takes endpoints into s.hosts and those that stay out of old.
func (s *Service) adoptLocked(old map[hostKey]*Host, endpoints []mesh.Endpoint, gateway bool, now instant) {
	for _, ep := range endpoints {
		key := hostKey{addr: ep.Address, gateway: gateway, plain: ep.Identity == "" && !gateway}
		if !gateway {
			key.instance = ep.Instance
		}
		h, ok := old[key]
		if ok {
			delete(old, key)
		} else if h, ok = s.hosts[key]; !ok { // not a repetition
			h = newHost(s, key)
		}
		h.weight.Store(max(ep.Weight, 1))
		if ep.Ready && !h.ready {
			// The control plane says that it is back, and knows better than
			// our memory of its failures.
			h.outlier = outlier{}
			h.startSlowly(now)
		}
		h.ready = ep.Ready
		h.mirrorLocked()
		s.hosts[key] = h
	}
}

// young reports whether the service is so new that nothing comes "back" to it.
func (s *Service) young(now instant) bool { return now.since(s.created) < s.shared.warmup }

// rebuildLocked publishes the state that follows from the hosts.
func (s *Service) rebuildLocked(now instant) {
	next := &candidates{warmup: s.shared.warmup}
	for _, h := range s.hosts {
		t := &next.tiers[h.key.priority()]
		t.health.total++
		switch {
		case !h.ready:
		case h.outlier.ejected():
			t.ejected = append(t.ejected, h)
			next.ejected = true
		default:
			t.add(h)
			t.health.up++
			if from := instant(h.slowStartSince.Load()); from != 0 {
				next.warmUntil = max(next.warmUntil, from.add(s.shared.warmup))
			}
		}
	}
	target := localShare(next.tiers[0].health, next.tiers[1].health)
	if next.tiers[0].health.up == 0 || next.tiers[1].health.up == 0 || s.young(now) {
		s.share = fixed(target) // there is nothing to choose between
	} else {
		s.share = s.share.toward(target, now, s.shared.warmup)
	}
	next.share = s.share
	s.candidates.Store(next)
}

// Close closes the idle connections; busy ones finish and are then closed.
// Nobody is picked any more.
func (s *Service) Close() {
	s.update(&mesh.Route{Destination: s.dest})
	s.shared.metrics.forget(s.metrics)
	if s.dest == (mesh.Destination{}) { // nobody else's
		s.shared.closeShared()
	}
}
