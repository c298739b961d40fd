package http2

// Flow control (RFC 9113 §5.2, §6.9) has two windows, one for each direction, and both
// exist of every stream and of the connection.

// sendWindow is how much payload the peer takes.
type sendWindow struct {
	left    int64 // in bytes; negative after a change of the peer's settings
	waiting bool  // AppendData was stopped by it
}

// add changes the window by so many bytes, and reports whether the protocol has a window as
// large as that. Else it is as before.
func (w *sendWindow) add(by int64) bool {
	if w.left+by > maxWindow {
		return false
	}
	w.left += by
	return true
}

// opened reports whether somebody waits who may send now: once.
func (w *sendWindow) opened() bool {
	if !w.waiting || w.left <= 0 {
		return false
	}
	w.waiting = false
	return true
}

// block notes that somebody waits for the window, if it is full.
func (w *sendWindow) block() { w.waiting = w.waiting || w.left <= 0 }

// receiveWindow is how much payload the peer may send, padding included (§6.9.1).
type receiveWindow struct {
	size  int64 // how many bytes may be on their way or unread
	left  int64 // of them, what the peer may still send
	freed int64 // what may come anew, and the peer was not told yet
}

// take takes off what has arrived, and reports whether the peer was allowed to send it.
func (w *receiveWindow) take(n int64) bool {
	if n > w.left {
		return false
	}
	w.left -= n
	return true
}

// free says that n bytes do not count any more. It returns by how much a WINDOW_UPDATE
// is to enlarge the peer's window: 0 until that is half of it. When the peer has nearly
// filled it meanwhile, it grows, by maxGrowth bytes at most; grown says by how many.
func (w *receiveWindow) free(n, maxGrowth int64) (update, grown int64) {
	w.freed += n
	if w.freed < w.size/2 || w.freed == 0 {
		return 0, 0
	}
	if w.left < w.size/4 {
		grown = max(0, min(w.size, GrownStreamWindow-w.size, maxGrowth))
		w.size += grown
	}
	update = w.freed + grown
	w.left += update
	w.freed = 0
	return update, grown
}
