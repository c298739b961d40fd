package upstream

import "sync/atomic"

// budget limits retries to a share of the recent requests. It has no clock.
// Its methods may be called concurrently; concurrent retries may overspend by
// their number.
type budget struct {
	requests window
	retries  window
}

// request counts a request, which earns budgetRatio of a retry.
func (b *budget) request(now instant) { b.requests.add(now.second()) }

// retry spends one retry and reports whether there was one to spend.
func (b *budget) retry(now instant) bool {
	sec := now.second()
	allowed := budgetRatio*float64(b.requests.sum(sec)) + budgetFloor*budgetWindow
	if float64(b.retries.sum(sec)) >= allowed {
		return false
	}
	b.retries.add(sec)
	return true
}

func (i instant) second() uint32 { return uint32(i / 1e9) }

// window counts events of the last budgetWindow seconds, a slot per second:
// the second in the upper half, the count in the lower.
type window [budgetWindow]atomic.Uint64

func (w *window) add(sec uint32) {
	slot := &w[sec%budgetWindow]
	for {
		old := slot.Load()
		next := uint64(sec)<<32 | 1
		if uint32(old>>32) == sec {
			next = old + 1
		}
		if slot.CompareAndSwap(old, next) {
			return
		}
	}
}

func (w *window) sum(sec uint32) uint64 {
	var n uint64
	for i := range w {
		v := w[i].Load()
		if uint32(v>>32)+budgetWindow > sec {
			n += v & (1<<32 - 1)
		}
	}
	return n
}
