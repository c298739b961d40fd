package tunnel

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestSmallWritesOfManyStreamsArriveWholeAndInOrder(t *testing.T) {
	east, west := neighbours(t)
	west.echoes(t)
	var wg sync.WaitGroup
	for i := range 32 {
		s := east.path(t, west)
		wg.Go(func() {
			defer s.Close()
			var sent bytes.Buffer
			wg.Go(func() {
				defer s.CloseWrite()
				for n := range 200 {
					b := bytes.Repeat([]byte{byte(i + n)}, 1+(i*n)%(maxGathered+200))
					sent.Write(b)
					if _, err := s.Write(b); err != nil {
						t.Error(err)
						return
					}
				}
			})
			got, err := io.ReadAll(s)
			if err != nil || !bytes.Equal(got, sent.Bytes()) {
				t.Errorf("stream %d: %d bytes, %v; want %d", i, len(got), err, sent.Len())
			}
		})
	}
	wg.Wait()
}

func TestAStreamQueuesLittleWhileNothingLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newNetwork(time.Millisecond))
		one := func(c *Config) { c.Connections = 1 }
		east, west := w.start("east/e1", eastAddr, one), w.start("west/w1", westAddr, one)
		east.dials(west)
		east.await(t, west.id, "connected", connections(1))
		west.echoes(t)
		filler, s := east.path(t, west), east.path(t, west)
		w.net.partition(eastAddr, westAddr, true)
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = filler.Write(make([]byte, 1<<20)) }) // fills the congestion window
		synctest.Wait()
		var queued atomic.Int64
		wg.Go(func() {
			for {
				n, err := s.Write(make([]byte, 1000))
				if queued.Add(int64(n)); err != nil {
					return
				}
			}
		})
		synctest.Wait()
		if n := queued.Load(); n == 0 || n > maxAhead+2*maxGathered {
			t.Errorf("%d bytes wait in a stream that cannot send, want up to %d", n, maxAhead)
		}
		_ = filler.Abort()
		_ = s.Abort()
		wg.Wait()
	})
}
