package health

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/dialerr"
)

// State is what is known of an address after some checks. The zero State knows
// nothing. It is a value: [State.After] returns the next one.
type State struct {
	Known bool // checked at least once
	Ready bool
	run   int // results in a row that contradict Ready
}

// After returns the state after one more check of c. The first result is
// believed at once; after that the thresholds of c apply.
func (s State) After(c Check, healthy bool) State {
	c = c.WithDefaults()
	switch {
	case !s.Known:
		return State{Known: true, Ready: healthy}
	case s.Ready == healthy:
		return State{Known: true, Ready: s.Ready}
	}
	s.run++
	if healthy && s.run >= c.HealthyAfter || !healthy && s.run >= c.UnhealthyAfter {
		return State{Known: true, Ready: healthy}
	}
	return s
}

// Watch checks until ctx ends: it calls probe, at once and then every interval,
// and report after the first result and after every change of readiness; err is
// why it is not ready. What has never been ready may be starting: it is checked
// after firstRetry, then after twice that, and so on up to the interval. Both are
// called on the caller's goroutine. A probe that was cut short by the end of ctx is
// not reported, and what is ready stays so when it cannot be asked for want of
// something on this machine.
func Watch(ctx context.Context, c Check, probe func(context.Context) error, report func(ready bool, err error)) {
	c = c.WithDefaults()
	if c.Kind == None {
		report(true, nil)
		return
	}
	var state State
	retry, started := min(firstRetry, c.Interval), false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := probe(ctx)
		if ctx.Err() != nil {
			return
		}
		if !state.Ready || !dialerr.Own(err) {
			next := state.After(c, err == nil)
			if !state.Known || next.Ready != state.Ready {
				report(next.Ready, err)
			}
			state = next
		}
		if started = started || state.Ready; started {
			timer.Reset(spread(c.Interval))
			continue
		}
		timer.Reset(spread(retry))
		retry = min(2*retry, c.Interval)
	}
}

// spread varies d by ±jitter.
func spread(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 + jitter*(2*rand.Float64()-1)))
}
