package streams

import "time"

// turn is a stream's place in turns.
type turn struct {
	waits bool
	next  *sendSide
}

// turns are the streams that wait to append to the queue: for room, or for those before them.
// Who has written a frame's worth and has more goes to the end; who waits for a window is not
// among them. The connection's lock guards them.
type turns struct {
	first, last *sendSide
	since       time.Time // somebody has been waiting; zero: nobody does
}

// add gives w the last place, unless it has one.
func (t *turns) add(w *sendSide) {
	if w.turn.waits {
		return
	}
	if t.since.IsZero() {
		t.since = time.Now()
	}
	w.turn = turn{waits: true}
	if t.last == nil {
		t.first = w
	} else {
		t.last.turn.next = w
	}
	t.last = w
}

// remove ends w's place, if it has one.
func (t *turns) remove(w *sendSide) {
	if !w.turn.waits {
		return
	}
	var before *sendSide
	for x := t.first; x != w; x = x.turn.next {
		before = x
	}
	if before == nil {
		t.first = w.turn.next
	} else {
		before.turn.next = w.turn.next
	}
	if t.last == w {
		t.last = before
	}
	if w.turn = (turn{}); t.first == nil {
		t.since = time.Time{}
	}
}

// limit reports whether somebody has been waiting for so long that another connection would help.
func (t *turns) limit(now time.Time) bool { return !t.since.IsZero() && now.Sub(t.since) >= limitedFor }
