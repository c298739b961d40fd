package upstream

import "testing"

func TestRequestsOnSharedPathsAllocateNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, f *farSide) {
		f.warm(t)
		p := f.quiet()
		held := mustLease(t, begin(f.service)) // the others share its path
		config := f.service.dialConfig.Load()
		if n := testing.AllocsPerRun(100, func() {
			c := p.take(f.service.shared.now(), config, false, true)
			if c != held.Conn {
				t.Fatal("it is not shared")
			}
			c.instance.active.Add(-1)
			p.release(c, f.service.shared.now(), f.service.shared.now(), true)
		}); n > 0 {
			t.Errorf("%v allocations", n)
		}
		if err := roundTrip(held); err != nil {
			t.Error(err)
		}
	})
}
