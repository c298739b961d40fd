package relay

import (
	"sync"
	"time"
)

// watchdog aborts a path on which nothing moves. It looks idleTicks times per
// idle timeout at whether anything moved since the last look, on the runtime's
// timer goroutine, so that a path costs no third goroutine.
type watchdog struct {
	pair *pair
	tick time.Duration

	mu      sync.Mutex
	timer   *time.Timer
	still   int // looks in a row at which nothing had moved
	stopped bool
}

func watch(p *pair, idle time.Duration) *watchdog {
	w := &watchdog{pair: p, tick: max(idle/idleTicks, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.tick, w.look)
	return w
}

func (w *watchdog) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	if w.pair.moved.Swap(false) {
		w.still = 0
	} else if w.still++; w.still >= idleTicks {
		w.pair.abort(ErrIdle)
		return
	}
	w.timer.Reset(w.tick)
}

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}
