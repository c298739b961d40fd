package tunnel

import (
	"testing"
	"time"
)

// rested lets a pair of gateways rest until neither counts as in use.
func rested(t *testing.T, test func(t *testing.T, w *world, east, west *gateway)) {
	t.Helper()
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		west.echoes(t)
		checkEcho(t, east.open(t, west), "a path")
		time.Sleep(busyFor + 30*time.Second)
		test(t, w, east, west)
	})
}

// packetsSent counts what a gateway's connections have sent.
func (g *gateway) packetsSent() (n uint64) {
	for _, c := range g.table.conns() {
		n += c.quic.ConnectionStats().PacketsSent
	}
	return n
}

func TestATunnelWithoutPathsBeatsSlowly(t *testing.T) {
	rested(t, func(t *testing.T, w *world, east, west *gateway) {
		since, before := east.peer(west.id).Since, east.packetsSent()
		time.Sleep(10 * time.Minute)
		idle := east.packetsSent() - before
		if p := east.peer(west.id); p.State != Up || p.Since != since || p.MTUReduced {
			t.Errorf("after idle minutes: %+v", p)
		}
		s := east.open(t, west)
		time.Sleep(time.Second)
		before = east.packetsSent()
		time.Sleep(time.Minute)
		busy := 10 * (east.packetsSent() - before)
		_ = s.Close()
		t.Logf("in ten minutes %d packets were sent, and %d while a path is open", idle, busy)
		const connections = 2
		if most := uint64(connections * 10 * 60 / 2); idle > most || busy < 5*idle {
			t.Errorf("want at most %d, and more while a path is open", most)
		}
	})
}

func TestAnIdlePeerThatDiesIsSeenInTheEnd(t *testing.T) {
	rested(t, func(t *testing.T, w *world, east, west *gateway) {
		w.net.port(westAddr).frozen.Store(true)
		frozen := time.Now()
		east.await(t, west.id, "down", isDown)
		if d := time.Since(frozen); d > idleSilence+2*idleTick {
			t.Errorf("seen after %v", d)
		}
	})
}

func TestTheDeathOfAnIdlePeerIsSeenWithinASecondOfAPathOrADoubt(t *testing.T) {
	for name, act := range map[string]func(t *testing.T, east, west *gateway){
		"a path":  func(t *testing.T, east, west *gateway) { _ = east.open(t, west) },
		"a doubt": func(_ *testing.T, east, west *gateway) { east.Doubt(west.id) },
	} {
		t.Run(name, func(t *testing.T) {
			rested(t, func(t *testing.T, w *world, east, west *gateway) {
				w.net.port(westAddr).frozen.Store(true)
				time.Sleep(3 * time.Second)
				if east.peer(west.id).State != Up {
					t.Fatal("it was seen before: the test shows nothing")
				}
				began := time.Now()
				act(t, east, west)
				east.await(t, west.id, "down", isDown)
				if d := time.Since(began); d > silence+150*time.Millisecond {
					t.Errorf("seen after %v", d)
				}
			})
		})
	}
}

func TestAPathOfAMinuteAgoStillCounts(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		west.echoes(t)
		time.Sleep(busyFor + time.Second)
		checkEcho(t, east.open(t, west), "a path")
		time.Sleep(busyFor - 5*time.Second)
		w.net.port(westAddr).frozen.Store(true)
		frozen := time.Now()
		east.await(t, west.id, "down", isDown)
		if d := time.Since(frozen); d > silence+150*time.Millisecond {
			t.Errorf("seen after %v", d)
		}
	})
}

func TestWhoWakesFindsAnIdlePeerAlive(t *testing.T) {
	rested(t, func(t *testing.T, w *world, east, west *gateway) {
		since := east.peer(west.id).Since
		for range 20 {
			checkEcho(t, east.open(t, west), "again")
			time.Sleep(busyFor + 7*time.Second)
		}
		if p := east.peer(west.id); p.Since != since || p.MTUReduced {
			t.Errorf("%+v", p)
		}
	})
}
