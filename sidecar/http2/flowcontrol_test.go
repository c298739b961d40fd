package http2

import "testing"

func TestASendWindowHasTheProtocolsBoundAndTellsOnceThatItOpened(t *testing.T) {
	w := sendWindow{left: 10}
	if w.add(maxWindow) || w.left != 10 {
		t.Errorf("a window beyond the protocol's bound is taken: %d", w.left)
	}
	w.block()
	if w.waiting {
		t.Error("somebody waits for a window that is open")
	}
	w.add(-30) // the peer's settings say less
	w.block()
	if w.add(20); w.opened() {
		t.Error("a window of 0 is open")
	}
	if w.add(1); !w.opened() || w.opened() {
		t.Error("it is not told once that the window opened")
	}
}

func TestAReceiveWindowComesBackInHalvesAndGrowsOnlyWhenItWasNearlyFull(t *testing.T) {
	w := receiveWindow{size: 1000, left: 1000}
	if w.take(1001) || !w.take(600) {
		t.Fatal("the peer may send as much as the window has, and no more")
	}
	if update, _ := w.free(499, 1<<20); update != 0 {
		t.Errorf("an update by %d before half of the window is free", update)
	}
	if update, grown := w.free(1, 1<<20); update != 500 || grown != 0 || w.left != 900 {
		t.Errorf("update %d, grown %d, left %d", update, grown, w.left)
	}
	w.take(800)
	if update, grown := w.free(800, 300); update != 1100 || grown != 300 || w.size != 1300 || w.left != 1200 {
		t.Errorf("update %d, grown %d, size %d, left %d: it grows by what may be", update, grown, w.size, w.left)
	}
	large := receiveWindow{size: GrownStreamWindow, left: 0}
	if _, grown := large.free(GrownStreamWindow, Growth); grown != 0 {
		t.Errorf("it grows by %d beyond what a window may be", grown)
	}
	var none receiveWindow
	if update, _ := none.free(0, Growth); update != 0 {
		t.Errorf("an update by %d of nothing", update)
	}
}
