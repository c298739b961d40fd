package streams

// streamSet is the streams of a connection: those in use, and those that are kept for the next. The
// connection's lock guards it.
type streamSet struct {
	using []*Stream // each knows its place
	free  []*Stream // on the server's side most with a goroutine
	peak  int       // of using since the last trim
}

// reuse returns a stream that is not in use, or nil.
func (t *streamSet) reuse() *Stream {
	last := len(t.free) - 1
	if last < 0 {
		return nil
	}
	s := t.free[last]
	t.free[last] = nil
	t.free = t.free[:last]
	return s
}

// use counts s among the streams in use.
func (t *streamSet) use(s *Stream) {
	s.place = len(t.using)
	t.using = append(t.using, s)
	t.peak = max(t.peak, len(t.using))
}

// remove takes s from those in use.
func (t *streamSet) remove(s *Stream) {
	last := len(t.using) - 1
	t.using[s.place] = t.using[last]
	t.using[s.place].place = s.place
	t.using[last] = nil
	t.using = t.using[:last]
}

// keep has s for the next that is needed.
func (t *streamSet) keep(s *Stream) { t.free = append(t.free, s) }

// trim lets go of streams that were not needed since it was called last, and reports whether none
// was.
func (t *streamSet) trim() bool {
	for len(t.free) > max(0, t.peak-len(t.using)) {
		t.reuse().stopLocked()
	}
	unused := t.peak == 0
	t.peak = len(t.using)
	return unused
}

// letGo lets go of all that are not in use.
func (t *streamSet) letGo() {
	for _, s := range t.free {
		s.stopLocked()
	}
	t.free = nil
}

// mostUnread returns the stream that holds most of what was not read, and was not reset for that
// yet; nil: none holds anything.
func (t *streamSet) mostUnread() *Stream {
	var most *Stream
	for _, s := range t.using {
		if s.unread > 0 && !s.shed && (most == nil || s.unread > most.unread) {
			most = s
		}
	}
	return most
}
