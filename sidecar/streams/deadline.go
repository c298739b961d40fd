package streams

import "time"

// deadline wakes who waits when its time has come. The connection's lock guards it.
//
// A deadline is moved with every exchange and comes almost never. So moving it on does
// not touch its timer: one that fires too soon is set anew.
type deadline struct {
	at    time.Time // zero: none
	armed time.Time // when the timer fires; zero: it does not
	timer *time.Timer
}

// set moves the deadline to t. fire is called when it is due, on the timer's goroutine:
// it takes the lock, asks due and wakes who waits.
func (d *deadline) set(t time.Time, fire func()) {
	d.at = t
	if !t.IsZero() && (d.armed.IsZero() || t.Before(d.armed)) {
		d.arm(fire)
	}
}

func (d *deadline) arm(fire func()) {
	d.armed = d.at
	if wait := time.Until(d.at); d.timer == nil {
		d.timer = time.AfterFunc(wait, fire)
	} else {
		d.timer.Reset(wait)
	}
}

// fired notes that the timer has, and reports whether the deadline is over; else it is
// set anew.
func (d *deadline) fired(fire func()) bool {
	d.armed = time.Time{}
	if d.at.IsZero() {
		return false
	}
	if d.over() {
		return true
	}
	d.arm(fire)
	return false
}

// over reports whether the deadline has passed.
func (d *deadline) over() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// stop ends the timer.
func (d *deadline) stop() {
	d.at, d.armed = time.Time{}, time.Time{}
	if d.timer != nil {
		d.timer.Stop()
	}
}
