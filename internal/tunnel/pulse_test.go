package tunnel

import (
	"testing"
	"time"
)

// hear tells the pulse of n ticks with a packet in each.
func (p *pulse) hear(n int, packets *uint64) {
	for range n {
		*packets++
		p.tick(tick, *packets, 0)
	}
}

func TestAPulseAsksBeforeItCallsAPeerDead(t *testing.T) {
	var p pulse
	var packets uint64
	p.hear(10, &packets)
	asked := 0
	for i := 1; ; i++ {
		heartbeat, dead := p.tick(tick, packets, 10*time.Millisecond)
		if heartbeat {
			asked++
		}
		if dead {
			if got := time.Duration(i) * tick; got != silence {
				t.Errorf("dead after %v, want %v", got, silence)
			}
			break
		}
	}
	if asked != heartbeats-1 {
		t.Errorf("asked %d times, want %d", asked, heartbeats-1)
	}
}

func TestAProcessThatDidNotRunDoesNotBlameItsPeers(t *testing.T) {
	var p pulse
	var packets uint64
	p.hear(10, &packets)
	// One tick came an hour late: stopped and continued.
	if heartbeat, dead := p.tick(worth(time.Hour), packets, 0); heartbeat || dead {
		t.Errorf("after one late tick: heartbeat %v, dead %v", heartbeat, dead)
	}
	// Starved: every tick comes 400 ms late. All that is heard in between helps,
	// and the peer is asked before it is given up.
	asked, ticks := 0, 0
	for dead := false; !dead; ticks++ {
		var heartbeat bool
		if heartbeat, dead = p.tick(worth(400*time.Millisecond), packets, 0); heartbeat {
			asked++
		}
	}
	if asked < 2 || ticks < int(silence/tickWorth) {
		t.Errorf("dead after %d late ticks and %d questions", ticks, asked)
	}
}

func TestAPeerThatWasLateIsGivenMoreTimeForAWhile(t *testing.T) {
	var p pulse
	var packets uint64
	p.hear(10, &packets)
	if got := p.limit(0); got != silence {
		t.Fatalf("limit %v, want %v", got, silence)
	}
	for range 15 {
		p.tick(tick, packets, 0)
	}
	p.hear(1, &packets) // after 750 ms
	if got := p.limit(0); got < 1400*time.Millisecond || got > 1500*time.Millisecond {
		t.Errorf("limit after 750 ms of silence %v, want twice that", got)
	}
	p.hear(int(30*time.Second/tick), &packets)
	if got := p.limit(0); got != silence {
		t.Errorf("limit half a minute later %v, want %v", got, silence)
	}
}

func TestSilenceFollowsTheRoundTripTimeWithinBounds(t *testing.T) {
	for _, c := range []struct{ late, rtt, want time.Duration }{
		{0, 0, silence},
		{0, 250 * time.Millisecond, silence},
		{0, 500 * time.Millisecond, 2 * time.Second},
		{0, time.Minute, maxSilence},
		{time.Minute, 0, maxLateSilence},
		{time.Minute, time.Second, 4 * time.Second},
	} {
		p := pulse{late: c.late}
		if got := p.limit(c.rtt); got != c.want {
			t.Errorf("late %v, rtt %v: limit %v, want %v", c.late, c.rtt, got, c.want)
		}
	}
}
