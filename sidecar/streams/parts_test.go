package streams

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// woken reports whether w was woken since it was asked last.
func woken(w *sendSide) bool {
	select {
	case <-w.woken:
		return true
	default:
		return false
	}
}

// waiters returns so many sides that may wait for a queue.
func waiters(n int) (all []*sendSide) {
	var mu sync.Mutex
	for range n {
		w := new(sendSide)
		w.init(&mu)
		all = append(all, w)
	}
	return all
}

func TestTurnsAreTakenInOrderAndEndAnywhere(t *testing.T) {
	all := waiters(5)
	for gone := range all {
		var ts turns
		for _, w := range all {
			ts.add(w)
			ts.add(w) // it has its place
		}
		ts.remove(all[gone])
		ts.remove(all[gone])
		ts.add(all[gone])
		want := append(slices.Delete(slices.Clone(all), gone, gone+1), all[gone])
		for i, w := range want {
			if ts.first != w {
				t.Fatalf("without %d another than %d is next", gone, i)
			}
			ts.remove(w)
		}
		if ts.first != nil || ts.last != nil || !ts.since.IsZero() {
			t.Fatalf("somebody waits who has left: %+v", ts)
		}
	}
}

func TestTurnsLimitAConnectionOnceSomebodyHasWaitedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ts turns
		all := waiters(2)
		ts.add(all[0])
		time.Sleep(limitedFor - time.Nanosecond)
		ts.add(all[1])
		ts.remove(all[0])
		if ts.limit(time.Now()) {
			t.Error("it is limited early")
		}
		if time.Sleep(time.Nanosecond); !ts.limit(time.Now()) {
			t.Error("it is not limited although somebody always waited")
		}
		if ts.remove(all[1]); ts.limit(time.Now()) {
			t.Error("it is limited and nobody waits")
		}
	})
}

func TestAQueueTakesNoMoreThanItHasRoomForAndHoldsNothingWhenItIsEmpty(t *testing.T) {
	var q sendQueue
	all := waiters(2)
	if q.put(q.buffer()); q.batch != nil || q.len() != 0 || q.take() != nil {
		t.Error("an empty queue holds memory")
	}
	if !q.free(all[0]) {
		t.Error("an empty queue has no room")
	}
	q.put(append(q.buffer(), make([]byte, maxQueue)...))
	if q.free(all[0]) {
		t.Error("a full queue has room")
	}
	q.turns.add(all[0])
	q.turns.add(all[1])
	if q.wakeNext(); woken(all[0]) {
		t.Error("somebody is woken and there is no room")
	}
	b := q.take()
	if len(b.buf) != maxQueue || q.queued != maxQueue || q.taken != maxQueue || q.len() != 0 {
		t.Errorf("%d bytes were taken, %d of %d so far, %d are left", len(b.buf), q.taken, q.queued, q.len())
	}
	b.release()
	if !woken(all[0]) || woken(all[1]) {
		t.Error("not the one who is next was woken, and nobody else")
	}
	if !q.free(all[0]) || q.free(all[1]) {
		t.Error("the room is not for who is next alone")
	}
	if q.leave(all[0]); !woken(all[1]) || !q.free(all[1]) {
		t.Error("who left does not make room for the next")
	}
	q.put(append(q.buffer(), 1))
	if q.drop(); q.len() != 0 || q.take() != nil {
		t.Error("what was dropped is still there")
	}
}

func TestASetKeepsTheStreamsThatWereNeededOfLate(t *testing.T) {
	near, far := sockets(t)
	c := Client(near, Config{})
	defer func() { _, _ = c.Close(), far.Close() }()
	var set streamSet
	all := make([]*Stream, 5)
	for i := range all {
		all[i] = newStream(c)
		set.use(all[i])
	}
	all[1].unread, all[3].unread, all[4].unread, all[4].shed = 1, 7, 9, true
	if set.mostUnread() != all[3] {
		t.Error("not the stream that holds most, of those that were not reset for it")
	}
	for _, i := range []int{1, 4, 0} {
		set.remove(all[i])
		set.keep(all[i])
	}
	for i, s := range set.using {
		if s.place != i {
			t.Errorf("the stream at %d thinks that it is at %d", i, s.place)
		}
	}
	if len(set.using) != 2 || set.trim() || len(set.free) != 3 {
		t.Errorf("%d in use, %d kept, of 5 that were needed", len(set.using), len(set.free))
	}
	if set.trim() || len(set.free) != 0 {
		t.Errorf("%d kept that were not needed", len(set.free))
	}
	set.remove(all[2])
	set.remove(all[3])
	if set.trim() || !set.trim() || set.reuse() != nil || set.mostUnread() != nil {
		t.Error("it is not known that no stream was needed")
	}
}

func TestWhatIsHeldIsReportedInSteps(t *testing.T) {
	u := NewUnread(1 << 30)
	h := heldBytes{bound: u}
	for _, step := range []struct{ by, reported int }{
		{reportEvery - 1, 0},
		{1, reportEvery},
		{-1, reportEvery},
		{2 - reportEvery, reportEvery},
		{-1, 0}, // nothing is left
	} {
		if h.add(step.by); u.Bytes() != int64(step.reported) {
			t.Errorf("%d more: %d are known of %d, want %d", step.by, u.Bytes(), h.bytes, step.reported)
		}
	}
	none := heldBytes{}
	none.add(1 << 20)
}
