package tunnel

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// healed is how long a tunnel may take after a sign of life: what is left of a dial
// that is under way sends its next packet within that time.
const healed = 4 * time.Second

func TestAPacketFromAPeersHostEndsTheBackoff(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		w.net.partition(eastAddr, westAddr, true)
		east.await(t, west.id, "down", isDown)
		time.Sleep(5 * time.Minute) // both are in the longest pauses
		w.net.partition(eastAddr, westAddr, false)
		began := time.Now()
		if _, err := west.WritePacket([]byte{1}, east.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := east.ReadPacket(t.Context(), make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		east.await(t, west.id, "up", isUp)
		if d := time.Since(began); d > healed {
			t.Errorf("up after %v", d)
		}
	})
}

func TestAHealedTunnelHurriesThoseToTheSameClusterAndHost(t *testing.T) {
	for second, addr := range map[string]string{"west/w2": otherAddr, "north/n1": "10.0.0.2:8443"} {
		t.Run(second, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, newNetwork(20*time.Millisecond))
				east, west, other := w.start("east/e1", eastAddr), w.start("west/w1", westAddr), w.start(second, addr)
				east.dials(west, other)
				east.await(t, west.id, "up", isUp)
				east.await(t, other.id, "up", isUp)
				for _, a := range []string{westAddr, addr} {
					w.net.partition(eastAddr, a, true)
				}
				time.Sleep(5 * time.Minute)
				for _, a := range []string{westAddr, addr} {
					w.net.partition(eastAddr, a, false)
				}
				east.Redial(west.id)
				east.await(t, west.id, "up", isUp)
				began := time.Now()
				east.await(t, other.id, "up", isUp)
				if d := time.Since(began); d > healed {
					t.Errorf("up %v after the other", d)
				}
			})
		})
	}
}

func TestPacketsFromAPeerThatDoesNotAnswerDoNotMakeForAStormOfDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newNetwork(20*time.Millisecond))
		east := w.start("east/e1", eastAddr)
		conn, err := w.net.listen(westAddr)() // says something, and answers nothing
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		east.SetTargets([]Target{{Addr: westAddr}})
		to, _ := net.ResolveUDPAddr("udp", eastAddr)
		for range 600 {
			if _, err := conn.WriteTo([]byte{1}, to); err != nil {
				t.Fatal(err)
			}
			if _, _, err := east.ReadPacket(t.Context(), make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := testutil.ToFloat64(east.metrics.dials.WithLabelValues("failed")); n > 15 { // one after another, each waits until it is given up
			t.Errorf("%v dials in a minute", n)
		}
	})
}
