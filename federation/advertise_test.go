package federation

import (
	"strings"
	"testing"
	"time"
)

func TestAnAddressThatIsKnownLaterReachesTheOthersWithoutARestart(t *testing.T) {
	virtual(t, func(t *testing.T, w *world) {
		east := w.start(plan{name: "east/east-1", addr: eastAddr})
		west := w.start(plan{name: "west/west-1", addr: westAddr, join: []string{eastAddr}})
		east.await("west", 10*time.Second, sees(east, west))
		for _, address := range []string{"", "gw1.west.example:7443", "198.51.100.7:30743"} {
			if err := west.SetAdvertise(address); err != nil {
				t.Fatal(err)
			}
			v := east.await("its address "+address, 30*time.Second, func(v *View) bool { return gatewayOf(v, west.id).Advertise == address })
			if !gatewayOf(v, west.id).Tunnel.Up {
				t.Errorf("the tunnel ended with the address before %q", address)
			}
		}
		if err := west.SetAdvertise(strings.Repeat("a", maxAddress+1)); err == nil {
			t.Error("an address that is too long was taken")
		}
	})
}
