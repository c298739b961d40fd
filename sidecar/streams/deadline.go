package streams

import (
	"sync"
	"time"
)

// deadline wakes who waits when its time has come. The connection's lock guards it.
//
// A deadline is moved with every exchange and comes almost never. So moving it on does
// not touch its timer: one that fires too soon is set anew.
type deadline struct {
	at    time.Time // zero: none
	over  bool      // it has passed
	armed time.Time // when the timer fires; zero: it does not
	timer *time.Timer
}

// set moves the deadline to t. fire is called when it is due, on the timer's goroutine:
// it takes the lock, asks fired and wakes who waits.
func (d *deadline) set(t time.Time, fire func()) {
	d.at, d.over = t, false
	if !t.IsZero() && (d.armed.IsZero() || t.Before(d.armed)) {
		d.arm(fire)
	}
}

func (d *deadline) arm(fire func()) {
	wait := time.Until(d.at)
	if d.over = wait <= 0; d.over {
		return
	}
	d.armed = d.at
	if d.timer == nil {
		d.timer = time.AfterFunc(wait, fire)
	} else {
		d.timer.Reset(wait)
	}
}

// fired notes that the timer has, and reports whether the deadline is over; else it is
// set anew. Without a deadline the timer is let go of: the stream may be idle for long.
func (d *deadline) fired(fire func()) bool {
	d.armed = time.Time{}
	switch {
	case d.at.IsZero():
		d.timer = nil
	case !d.over:
		d.arm(fire)
	}
	return d.over
}

// clear lifts the deadline and leaves the timer for the next.
func (d *deadline) clear() { d.at, d.over = time.Time{}, false }

// stop ends the timer.
func (d *deadline) stop() {
	d.at, d.armed, d.over = time.Time{}, time.Time{}, false
	if d.timer != nil {
		d.timer.Stop()
	}
}

// waiter is the goroutine that waits on one side of a stream, if one does. The connection's lock
// guards it.
type waiter struct {
	woken    chan struct{} // something has changed
	deadline deadline
	due      func() // the deadline's timer
}

// init makes the waiter of a connection with the lock mu.
func (w *waiter) init(mu *sync.Mutex) {
	w.woken = make(chan struct{}, 1)
	w.due = func() {
		mu.Lock()
		defer mu.Unlock()
		if w.deadline.fired(w.due) {
			w.wake()
		}
	}
}

// wake wakes who waits, now or next. It needs no lock.
func (w *waiter) wake() { signal(w.woken) }

// setDeadline moves the deadline to t; zero: never.
func (w *waiter) setDeadline(t time.Time) {
	w.deadline.set(t, w.due)
	if w.deadline.over {
		w.wake()
	}
}

// signal wakes who waits on ch, now or next.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
