package relay

import (
	"sync"
	"time"
)

// watchdog looks after a path whose owner does not: idleTicks times per idle timeout, on the
// runtime's timer goroutine, so that a path costs no third goroutine.
type watchdog struct {
	pair *Pair
	tick time.Duration

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

func watch(p *Pair, idle time.Duration) *watchdog {
	w := &watchdog{pair: p, tick: max(idle/idleTicks, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.tick, w.look)
	return w
}

func (w *watchdog) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.pair.Look(time.Now())
		w.timer.Reset(w.tick)
	}
}

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}
