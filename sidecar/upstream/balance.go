package upstream

import (
	"math/rand/v2"
	"sort"
	"time"
)

// candidates are what a pick reads: a service's hosts at one moment. It never
// changes; changes of routes and ejections make a new one.
type candidates struct {
	tiers     [2]tier // by priority
	share     ramp    // of the traffic that the local tier takes
	warmup    time.Duration
	warmUntil instant // some host is warming up until then
	ejected   bool    // some tier has ejected hosts
}

// tier is one priority's hosts.
type tier struct {
	up      []*Host  // ready and in service
	weights []uint64 // running sums of the weights of up
	ejected []*Host  // ready, but ejected by us
	health  health
}

func (t *tier) add(h *Host) {
	t.up = append(t.up, h)
	sum := uint64(h.weight.Load())
	if n := len(t.weights); n > 0 {
		sum += t.weights[n-1]
	}
	t.weights = append(t.weights, sum)
}

// choose returns the host for the next attempt of a, or nil when everybody who
// exists and is ready has been asked.
func (s *candidates) choose(now instant, a *Attempts) *Host {
	first := 0
	switch {
	case a.asked == 0:
		// Priorities share out first attempts only: who asks again takes the
		// nearest host that is left.
		if share := s.share.at(now); share < 1 && rand.Float64() >= share {
			first = 1
		}
	case a.local >= localAttempts:
		first = 1
	}
	warming := now < s.warmUntil
	for i := range s.tiers {
		if !a.stay.allows(first ^ i) {
			continue
		}
		if h := s.tiers[first^i].choose(now, a, s.warmup, warming); h != nil {
			return h
		}
	}
	// Better somebody who failed us lately than nobody.
	for i := range s.tiers {
		if !a.stay.allows(first ^ i) {
			continue
		}
		if h := anyOf(s.tiers[first^i].ejected, a); h != nil {
			return h
		}
	}
	return nil
}

// others reports whether a host is in service that a has not asked, and may.
func (s *candidates) others(a *Attempts) bool {
	if a.policy.Instance != "" {
		return false
	}
	for i := range s.tiers {
		for _, h := range s.tiers[i].up {
			if !a.hasTried(h) {
				return true
			}
		}
	}
	return false
}

// claimProbe returns an ejected host whose time is over, if there is one: this
// request finds out whether it is fit, and no other does.
func (s *candidates) claimProbe(now instant) *Host {
	if !s.ejected {
		return nil
	}
	for i := range s.tiers {
		for _, h := range s.tiers[i].ejected {
			if h.claimProbe(now) {
				return h
			}
		}
	}
	return nil
}

// anyOf returns a random one of hosts that a has not tried, or nil.
func anyOf(hosts []*Host, a *Attempts) *Host {
	if len(hosts) == 0 {
		return nil
	}
	start := rand.IntN(len(hosts))
	for i := range hosts {
		if h := hosts[(start+i)%len(hosts)]; !a.hasTried(h) {
			return h
		}
	}
	return nil
}

// choose draws two hosts by weight and takes the better (power of two choices).
func (t *tier) choose(now instant, tried *Attempts, warmup time.Duration, warming bool) *Host {
	if len(t.up) == 0 {
		return nil
	}
	var a, b *Host
	if warming || tried.asked > 0 {
		a = t.scan(now, tried, nil, warmup)
		if a == nil {
			return nil
		}
		b = t.scan(now, tried, a, warmup)
	} else {
		a = t.draw()
		if len(t.up) == 1 {
			return a
		}
		for range 4 {
			if b = t.draw(); b != a {
				break
			}
		}
		if b == a { // one host has nearly all the weight
			b = t.scan(now, tried, a, warmup)
		}
	}
	if b == nil || b == a {
		return a
	}
	return better(a, b, now)
}

// draw returns a host at random by weight, in logarithmic time.
func (t *tier) draw() *Host {
	if len(t.up) == 1 {
		return t.up[0]
	}
	r := rand.Uint64N(t.weights[len(t.weights)-1])
	return t.up[sort.Search(len(t.weights), func(i int) bool { return t.weights[i] > r })]
}

// scan is draw among the hosts that tried has not tried and other than skip, by
// the weight that they have while warming up. It takes linear time.
func (t *tier) scan(now instant, tried *Attempts, skip *Host, warmup time.Duration) *Host {
	var sum float64
	for _, h := range t.up {
		if h != skip && !tried.hasTried(h) {
			sum += h.slowStartWeight(now, warmup)
		}
	}
	if sum == 0 {
		return nil
	}
	r := rand.Float64() * sum
	var last *Host
	for _, h := range t.up {
		if h == skip || tried.hasTried(h) {
			continue
		}
		last = h
		if r -= h.slowStartWeight(now, warmup); r < 0 {
			break
		}
	}
	return last
}

// better compares two hosts that were drawn, a before b. Latency decides when
// it differs by more than noise, then the number of running requests, then the
// draw.
func better(a, b *Host, now instant) *Host {
	ca, la := a.cost(now)
	cb, lb := b.cost(now)
	switch {
	case ca*latencyTolerance < cb:
		return a
	case cb*latencyTolerance < ca:
		return b
	case lb < la:
		return b
	}
	return a
}

// cost returns what one more request at h is expected to cost, and h's load:
// running requests by weight. The first request to a host without history is
// free, so that it gets one; until that is answered, others go elsewhere.
func (h *Host) cost(now instant) (cost, load float64) {
	active := float64(h.active.Load())
	load = active / float64(h.weight.Load())
	l, known := h.latency.at(now)
	switch {
	case known:
		return l * (1 + load), load
	case active == 0:
		return 0, load
	}
	return float64(time.Hour) * (1 + load), load
}
