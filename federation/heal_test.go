package federation

import (
	"testing"
	"time"
)

func TestAfterAPartialPartitionTheTwoMeetWithinSecondsAlthoughAThirdKnewBoth(t *testing.T) {
	// Each meets another moment of the backoff.
	cuts := []time.Duration{3 * time.Second, 40 * time.Second, 52 * time.Second, 68900 * time.Millisecond, 76 * time.Second, 79 * time.Second, 86 * time.Second, 10 * time.Minute}
	if raceEnabled { // five times as slow; the last is long after the longest backoff, too
		cuts = []time.Duration{3 * time.Second, 52 * time.Second, 79 * time.Second, 150 * time.Second}
	}
	for _, cut := range cuts {
		t.Run(cut.String(), func(t *testing.T) {
			three(t, func(t *testing.T, w *world, east, west, north *node) {
				w.net.partition(east, west, true)
				east.await("west down", 10*time.Second, func(v *View) bool { return !gatewayOf(v, west.id).Tunnel.Up })
				west.await("east down", 10*time.Second, func(v *View) bool { return !gatewayOf(v, east.id).Tunnel.Up })
				time.Sleep(cut)
				if v, _ := north.View(); !gatewayOf(v, east.id).Tunnel.Up || !gatewayOf(v, west.id).Tunnel.Up {
					t.Fatal("north lost one of them")
				}
				w.net.partition(east, west, false)
				start := time.Now()
				up := func(n *node) func(*View) bool {
					return func(v *View) bool { return gatewayOf(v, n.id).Tunnel.Up }
				}
				east.await("west up", time.Minute, up(west))
				west.await("east up", time.Minute, up(east))
				t.Logf("cut for %v: met again after %v", cut, time.Since(start))
				if d := time.Since(start); d > 4*time.Second {
					t.Errorf("met again after %v, want a few seconds", d)
				}
			})
		})
	}
}
