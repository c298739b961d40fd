package http2

// stream is what the engine knows of an open stream.
type stream struct {
	id        uint32
	remoteEnd bool // the peer sends no more
	localEnd  bool // we send no more
	headCame  bool // the final response head came (client)
	answered  bool // we sent the final response head (server)
	bodiless  bool // the response has no DATA whatever its content-length says (HEAD)
	connect   bool // the method is CONNECT, plain or extended
	send      sendWindow
	receive   receiveWindow
	interim   int   // size of the interim responses so far, see maxInterim
	length    int64 // payload that content-length still wants; -1: not said
	owner     any
}

// streamSet is the streams of a connection in the states of RFC 9113 §5.1: those that are
// open, what is known of those that are closed, and from where on they are idle.
type streamSet struct {
	table         // the open ones
	recent recent // the closed ones
	server bool
	lastID uint32 // the highest that the peer opened
	nextID uint32 // the next that we open

	window int64 // how much of a stream may be unread in the beginning
	growth int64 // by how much the windows of all may still grow
}

// idle reports whether nobody has opened the stream yet.
func (t *streamSet) idle(id uint32) bool {
	if theirs := (id&1 == 1) == t.server; theirs {
		return id > t.lastID
	}
	return id >= t.nextID || id&1 == 0
}

// open returns a new stream; the peer takes so many bytes of it.
func (t *streamSet) open(id, sendWindow uint32) *stream {
	s := t.add(id)
	s.send.left = int64(sendWindow)
	s.receive = receiveWindow{size: t.window, left: t.window}
	return s
}

// close forgets an open stream.
func (t *streamSet) close(s *stream, byUs bool) {
	t.growth += s.receive.size - t.window
	t.recent.add(s.id, byUs)
	t.remove(s.id)
}

// free says that n bytes of the stream do not count any more, and returns by how much a
// WINDOW_UPDATE is to enlarge its window; 0: not now.
func (t *streamSet) free(s *stream, n int64) int64 {
	if s.remoteEnd {
		return 0
	}
	update, grown := s.receive.free(n, t.growth)
	t.growth -= grown
	return update
}

// shift changes how much the peer takes of each stream, which may become less than nothing
// (RFC 9113 §6.9.2), and reports whether the protocol has such windows.
func (t *streamSet) shift(by int64) bool {
	for _, s := range t.slots {
		if s != nil && !s.send.add(by) {
			return false
		}
	}
	return true
}

// endLocal takes in that we send no more.
func (c *Conn) endLocal(s *stream) {
	s.localEnd = true
	if s.remoteEnd {
		c.finish(s)
	}
}

// finish closes a stream that both ends have ended.
func (c *Conn) finish(s *stream) {
	c.budgets.finished()
	c.streams.close(s, false)
}

// OpenStream opens a stream and returns its identifier, in a client. Its head must be the
// next that is sent: BeginRequest follows under the same lock. Errors: ErrStreamLimit,
// ErrGoingAway, or the connection's own.
func (c *Conn) OpenStream() (uint32, error) {
	switch {
	case c.err != nil:
		return 0, c.err
	case c.server || c.Draining() || c.streams.nextID > maxStreamID:
		return 0, ErrGoingAway
	case c.streams.n >= c.peer.MaxStreams():
		return 0, ErrStreamLimit
	}
	s := c.streams.open(c.streams.nextID, c.peer.initialWindow)
	c.streams.nextID += 2
	return s.id, nil
}

// Attach gives a stream the owner that its events name. A pointer costs nothing.
func (c *Conn) Attach(id uint32, owner any) {
	if s := c.streams.find(id); s != nil {
		s.owner = owner
	}
}

// AppendReset appends RST_STREAM and forgets the stream. Nothing is appended for a
// stream that is closed. A server that refuses it counts it as one that its peer has reset:
// of such it has too many at work.
func (c *Conn) AppendReset(out []byte, id uint32, code Code) []byte {
	out = c.Output(out)
	s := c.streams.find(id)
	if s == nil {
		return out
	}
	if c.server && code == RefusedStream {
		_ = c.budgets.spend(resets) // as in receiver.reset
	}
	c.streams.close(s, true)
	return appendUint32Frame(out, frameResetStream, id, uint32(code))
}

// Forget closes a stream without a word: after GOAWAY, for one that the peer never saw.
func (c *Conn) Forget(id uint32) {
	if s := c.streams.find(id); s != nil {
		c.streams.close(s, true)
	}
}

// AppendOwners appends the owners of the open streams whose identifier is above the
// given one, in no order: 0 for all of them.
func (c *Conn) AppendOwners(dst []any, above uint32) []any {
	for _, s := range c.streams.slots {
		if s != nil && s.id > above && s.owner != nil {
			dst = append(dst, s.owner)
		}
	}
	return dst
}
