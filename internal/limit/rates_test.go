package limit

import (
	"testing"
	"time"
)

func TestMoreSourcesThanAreCountedApartShareOneLimit(t *testing.T) {
	r := NewRates[int](1, 2)
	now := time.Now()
	for i := range maxCounted {
		r.Allow(i, now)
		r.Allow(i, now)
	}
	for i := range 4 {
		if got := r.Allow(maxCounted+i, now); got != (i < 2) {
			t.Errorf("newcomer %d: %v", i, got)
		}
	}
	now = now.Add(time.Minute) // all are full again, and forgotten
	if !r.Allow(-1, now) || len(r.buckets) != 1 {
		t.Errorf("%d are counted", len(r.buckets))
	}
}
