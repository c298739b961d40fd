package tunnel

import (
	"testing"
	"testing/synctest"
	"time"
)

// healed is how long a tunnel may take after a sign of life: what is left of a dial
// that is under way sends its next packet within that time.
const healed = 4 * time.Second

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
