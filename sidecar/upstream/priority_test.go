package upstream

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

// The table of Envoy's documentation, "Priority levels", for two priorities.
func TestPrioritiesShareTrafficAsEnvoyDocuments(t *testing.T) {
	all := health{100, 100}
	for _, tt := range []struct {
		local, gateways health
		want            float64 // local, in percent
	}{
		{health{100, 100}, all, 100},
		{health{72, 100}, all, 100},
		{health{71, 100}, all, 99.4}, // Envoy truncates to 99
		{health{50, 100}, all, 70},
		{health{25, 100}, all, 35},
		{health{0, 100}, all, 0},
		{health{0, 0}, all, 0}, // no local endpoint exists
		{health{1, 2}, health{2, 2}, 70},
		{health{2, 2}, health{0, 2}, 100},
		{health{0, 2}, health{0, 2}, 100},      // nobody: of no consequence
		{health{25, 100}, health{25, 100}, 50}, // 35 + 35 scaled up to 100
		{health{50, 100}, health{20, 100}, 100 * 70.0 / 98},
		{health{25, 100}, health{0, 0}, 100},
	} {
		if got := 100 * localShare(tt.local, tt.gateways); math.Abs(got-tt.want) > 1e-6 {
			t.Errorf("local %v gateways %v: local share %.2f %%, want %.2f %%", tt.local, tt.gateways, got, tt.want)
		}
	}
}

func TestTheLocalShareGrowsWithLocalHealthAndStaysAShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.IntRange(1, 50).Draw(t, "total")
		up := rapid.IntRange(0, total-1).Draw(t, "up")
		gateways := health{total: rapid.IntRange(1, 5).Draw(t, "gateways")}
		gateways.up = rapid.IntRange(1, gateways.total).Draw(t, "gateways up")
		less, more := localShare(health{up, total}, gateways), localShare(health{up + 1, total}, gateways)
		if less < 0 || more > 1 || less > more {
			t.Fatalf("share %v with %d of %d up, %v with one more", less, up, total, more)
		}
	})
}

func TestAShareFallsAtOnceAndClimbsOverTheWarmup(t *testing.T) {
	const warmup = 10 * time.Second
	at := func(s float64) instant { return instant(s * 1e9) }
	r := fixed(1).toward(0, at(1), warmup)
	if got := r.at(at(1)); got != 0 {
		t.Fatalf("share right after the fall: %v, want 0", got)
	}
	r = r.toward(1, at(10), warmup)
	for _, tt := range []struct{ at, want float64 }{{10, 0}, {15, 0.5}, {19, 0.9}, {20, 1}, {99, 1}} {
		if got := r.at(at(tt.at)); !near(got, tt.want) {
			t.Errorf("share at %v s: %v, want %v", tt.at, got, tt.want)
		}
	}
	if again := r.toward(1, at(15), warmup); again != r {
		t.Errorf("an update to the same target began anew: %v, want %v", again, r)
	}
	if lower := r.toward(0.3, at(15), warmup); lower.at(at(15)) != 0.3 {
		t.Errorf("a lower target is at %v, want 0.3 at once", lower.at(at(15)))
	}
	r = r.toward(0.7, at(12), warmup) // at 0.2 now
	for _, tt := range []struct{ at, want float64 }{{12, 0.2}, {17, 0.45}, {22, 0.7}} {
		if got := r.at(at(tt.at)); !near(got, tt.want) {
			t.Errorf("share toward 0.7 at %v s: %v, want %v", tt.at, got, tt.want)
		}
	}
}

func TestAWarmingHostBeginsWithATenthOfItsWeight(t *testing.T) {
	const warmup = 10 * time.Second
	at := func(s float64) instant { return instant(s * 1e9) }
	for _, tt := range []struct{ at, want float64 }{{100, 0.1}, {100.5, 0.1}, {105, 0.5}, {110, 1}, {200, 1}} {
		if got := slowStartWeight(at(100), at(tt.at), warmup); !near(got, tt.want) {
			t.Errorf("warmth %v s after the return: %v, want %v", tt.at-100, got, tt.want)
		}
	}
	if got := slowStartWeight(0, at(1), warmup); got != 1 {
		t.Errorf("warmth of a host that never left: %v, want 1", got)
	}
}
