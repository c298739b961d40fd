package upstream

import (
	"math"
	"sync/atomic"
	"time"
)

// latency is a host's peak-sensitive moving average (peak EWMA): a higher
// sample counts at once, lower ones with the time that passed, and without
// samples it fades, so that a host that was slow is tried again. Its methods
// may be called concurrently; of two samples at one moment one may be lost.
type latency struct {
	value atomic.Uint64 // float64 bits, nanoseconds; 0: no sample yet
	stamp atomic.Int64  // instant of the last sample
}

// at returns the average at now, in nanoseconds, and false without a sample.
func (l *latency) at(now instant) (float64, bool) {
	v := math.Float64frombits(l.value.Load())
	if v == 0 {
		return 0, false
	}
	return v * fade(now.since(instant(l.stamp.Load()))), true
}

// observe adds a sample taken at now.
func (l *latency) observe(sample time.Duration, now instant) {
	s := max(float64(sample), 1)
	if v := math.Float64frombits(l.value.Load()); v > s {
		w := fade(now.since(instant(l.stamp.Load())))
		s = v*w + s*(1-w)
	}
	l.value.Store(math.Float64bits(s))
	l.stamp.Store(int64(now))
}

// fade is the weight of what is age old.
func fade(age time.Duration) float64 {
	return math.Exp(-float64(max(age, 0)) / float64(latencyDecay))
}
