//go:build !race

package tunnel

import (
	"io"
	"runtime"
	"sync"
	"testing"
)

// The race detector has goroutines run in another order.
func TestWhatManyStreamsWriteAtATimeLeavesInFewPackets(t *testing.T) {
	const streams, each = 64, 100
	w := newWorld(t, nil)
	one := func(c *Config) { c.Connections = 1 }
	east, west := w.start("east/e1", "127.0.0.1:0", one), w.start("west/w1", "127.0.0.1:0", one)
	east.dials(west)
	east.await(t, west.id, "connected", connections(1))
	west.echoes(t)
	var all []*Stream
	for range streams {
		s := east.path(t, west)
		defer s.Close()
		all = append(all, s)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // all are ready at a time, and nobody else runs meanwhile
	c := all[0].conn
	before := c.quic.ConnectionStats().PacketsSent
	var wg sync.WaitGroup
	for _, s := range all {
		wg.Go(func() {
			if _, err := s.Write(make([]byte, each)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, s := range all {
		if _, err := io.ReadFull(s, make([]byte, each)); err != nil {
			t.Fatal(err)
		}
	}
	// 6,400 bytes of payload are 5 to 7 packets; acknowledgements and probes are a few more.
	if n := c.quic.ConnectionStats().PacketsSent - before; n > streams/2 {
		t.Errorf("%d packets for %d small messages", n, streams)
	}
}
