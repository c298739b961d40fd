package streams

import "time"

// fullWindow knows for how long the connection's window, which all streams share, has been what
// streams wait for. The connection's lock guards it.
type fullWindow struct {
	waiting int       // streams
	since   time.Time // some have been waiting, with pauses of windowPause at most
	until   time.Time // when the last one stopped
}

func (w *fullWindow) wait(now time.Time) {
	if w.waiting == 0 && now.Sub(w.until) > windowPause {
		w.since = now
	}
	w.waiting++
}

func (w *fullWindow) stop(now time.Time) {
	w.waiting--
	w.until = now
}

// limits reports whether streams have been waiting for so long that another connection would help.
func (w *fullWindow) limits(now time.Time) bool {
	return (w.waiting > 0 || now.Sub(w.until) <= windowPause) && now.Sub(w.since) >= limitedFor
}
