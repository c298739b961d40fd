package tunnel

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// received is a packet and whom it came from.
type received struct {
	from mesh.GatewayID
	b    []byte
}

// packets has a gateway's packets queued.
func (g *gateway) packets() <-chan received {
	ch := make(chan received, 10_000)
	g.HandlePackets(func(from mesh.GatewayID, b []byte) { ch <- received{from, b} })
	return ch
}

func TestAPacketComesFromTheGatewayThatItsTunnelProves(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		got := west.packets()
		for _, size := range []int{1, MaxPacket} {
			sent := bytes.Repeat([]byte{7}, size)
			if err := east.SendPacket(west.id, sent); err != nil {
				t.Fatal(err)
			}
			if p := <-got; p.from != east.id || !bytes.Equal(p.b, sent) {
				t.Errorf("%d bytes became %d from %s", size, len(p.b), p.from)
			}
		}
		for _, size := range []int{0, MaxPacket + 1} {
			if err := east.SendPacket(west.id, make([]byte, size)); err == nil {
				t.Errorf("a packet of %d bytes was sent", size)
			}
		}
		wantError(t, east.SendPacket(gatewayID(t, "north/n1"), []byte{1}), ErrNoTunnel)
	})
}

func TestThePacketOfTheLargestSizePassesTheNarrowestPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newNetwork(20*time.Millisecond))
		w.net.narrow(eastAddr, westAddr, basePacketSize)
		w.net.narrow(westAddr, eastAddr, basePacketSize)
		east, west := w.start("east/e1", eastAddr), w.start("west/w1", westAddr)
		east.dials(west)
		east.await(t, west.id, "up", isUp)
		west.await(t, east.id, "up", isUp)
		got := west.packets()
		for range 100 {
			if err := east.SendPacket(west.id, make([]byte, MaxPacket)); err != nil {
				t.Fatal(err)
			}
			<-got
		}
	})
}

func TestWhatIsNoTunnelBringsNoPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newNetwork(20*time.Millisecond))
		east := w.start("east/e1", eastAddr)
		got := east.packets()
		conn, err := w.net.listen(westAddr)() // says something, and answers nothing
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		east.SetTargets([]Target{{Addr: westAddr}})
		to, _ := net.ResolveUDPAddr("udp", eastAddr)
		for i := range 600 {
			if _, err := conn.WriteTo([]byte{byte(i % 4), 1, 2}, to); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if len(got) > 0 {
			t.Errorf("%d packets of a stranger", len(got))
		}
		if n := testutil.ToFloat64(east.metrics.dials.WithLabelValues("failed")); n > 15 { // one after another, each waits until it is given up
			t.Errorf("%v dials in a minute", n)
		}
	})
}

func TestAFloodOfPacketsIsBoundedAtBothEnds(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		got := west.packets()
		dropped := 0
		for range 100 {
			for range 200 {
				if err := east.SendPacket(west.id, make([]byte, MaxPacket)); errors.Is(err, ErrPacketDropped) {
					dropped++
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		const connections = 2
		if n := len(got); n == 0 || n > connections*(maxPacketBurst+2*maxPacketRate) {
			t.Errorf("%d packets were handled within two seconds", n)
		}
		if dropped == 0 || testutil.ToFloat64(west.metrics.packetsDropped) == 0 {
			t.Errorf("%d dropped at one end and %v at the other", dropped, testutil.ToFloat64(west.metrics.packetsDropped))
		}
		if p := east.peer(west.id); p.State != Up || p.MTUReduced {
			t.Errorf("after the flood: %+v", p)
		}
	})
}
