package upstream

import (
	"testing"
	"time"
)

func TestAPeakCountsAtOnceAndFades(t *testing.T) {
	var l latency
	if _, known := l.at(1); known {
		t.Fatal("a latency without samples is known")
	}
	now := instant(1)
	l.observe(time.Millisecond, now)
	l.observe(time.Second, now)
	if got, _ := l.at(now); got != float64(time.Second) {
		t.Errorf("right after a peak: %v, want 1 s", time.Duration(got))
	}
	now = now.add(latencyDecay)
	got, _ := l.at(now)
	if got < 0.36*float64(time.Second) || got > 0.37*float64(time.Second) {
		t.Errorf("after the decay time: %v, want 1/e of 1 s", time.Duration(got))
	}
	for range 100 {
		now = now.add(latencyDecay / 10)
		l.observe(time.Millisecond, now)
	}
	if got, _ := l.at(now); got > 1.1*float64(time.Millisecond) {
		t.Errorf("after many low samples: %v, want about 1 ms", time.Duration(got))
	}
}
