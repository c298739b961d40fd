package upstream

import "time"

// health counts the hosts of one priority.
type health struct {
	up    int // ready and not ejected
	total int // everything that exists
}

// score is how much of all traffic the priority can take, 0 to 1: the healthy
// part times the overprovisioning factor.
func (h health) score() float64 {
	if h.total == 0 {
		return 0
	}
	return min(1, overprovisioning*float64(h.up)/float64(h.total))
}

// localShare is Envoy's priority arithmetic for two priorities: the part of
// the traffic, 0 to 1, that priority 0 takes; priority 1 takes the rest. When
// both together cannot take everything their scores are scaled up. When nobody
// is healthy it is 1, and of no consequence.
//
// See "Priority levels" in Envoy's documentation of load balancing.
func localShare(local, gateways health) float64 {
	p0, p1 := local.score(), gateways.score()
	total := min(1, p0+p1)
	if total == 0 {
		return 1
	}
	return min(1, p0/total)
}

// ramp is a share that follows its target: downward at once, upward in a
// straight line over the warm-up time. It is a value without a clock.
type ramp struct {
	from, to   float64
	start, end instant
}

// fixed returns a ramp that stands at v.
func fixed(v float64) ramp { return ramp{from: v, to: v} }

// at returns the share at now.
func (r ramp) at(now instant) float64 {
	if now >= r.end {
		return r.to
	}
	return r.from + (r.to-r.from)*float64(now-r.start)/float64(r.end-r.start)
}

// toward returns the ramp that goes from where r is now to target.
func (r ramp) toward(target float64, now instant, warmup time.Duration) ramp {
	at := r.at(now)
	switch {
	case target <= at || warmup <= 0:
		return fixed(target)
	case target == r.to:
		return r // keep climbing
	}
	return ramp{from: at, to: target, start: now, end: now.add(warmup)}
}

// slowStartWeight returns which part of its weight, 0 to 1, a host has at now that
// came back at start. A start of 0 means that the host is not warming up.
func slowStartWeight(start, now instant, warmup time.Duration) float64 {
	if start == 0 || now.since(start) >= warmup {
		return 1
	}
	return max(warmupFloor, float64(now-start)/float64(warmup))
}
