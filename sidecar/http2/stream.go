package http2

// stream is what the engine knows of an open stream.
type stream struct {
	id        uint32
	remoteEnd bool  // the peer sends no more
	localEnd  bool  // we send no more
	headCame  bool  // the final response head came (client)
	answered  bool  // we sent the final response head (server)
	bodiless  bool  // the response has no DATA whatever its content-length says (HEAD)
	connect   bool  // the method is CONNECT, plain or extended
	waiting   bool  // AppendData was stopped by window
	window    int64 // what we may send; negative after a change of the peer's settings
	size      int64 // how much may be unread
	received  int64 // of it, what the peer may still send
	consumed  int64 // what was read since window was last given back
	interim   int   // size of the interim responses so far, see maxInterim
	length    int64 // payload that content-length still wants; -1: not said
	owner     any
}

// table finds open streams by their identifiers: open addressing with linear probing,
// because identifiers come in order and leave soon. Streams that are closed are kept for
// those to come, until Conn.Trim.
type table struct {
	slots []*stream // a power of two of them, at most half full
	n     int
	free  []*stream
}

func (t *table) find(id uint32) *stream {
	if t.n == 0 {
		return nil
	}
	mask := uint32(len(t.slots) - 1)
	for i := (id >> 1) & mask; ; i = (i + 1) & mask {
		if s := t.slots[i]; s == nil || s.id == id {
			return s
		}
	}
}

// add returns a new stream, all zero but for its identifier.
func (t *table) add(id uint32) *stream {
	if 2*(t.n+1) > len(t.slots) {
		t.grow()
	}
	var s *stream
	if last := len(t.free) - 1; last >= 0 {
		s, t.free = t.free[last], t.free[:last]
	} else {
		s = new(stream)
	}
	*s = stream{id: id, length: -1}
	t.place(s)
	t.n++
	return s
}

func (t *table) place(s *stream) {
	mask := uint32(len(t.slots) - 1)
	i := (s.id >> 1) & mask
	for t.slots[i] != nil {
		i = (i + 1) & mask
	}
	t.slots[i] = s
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]*stream, max(8, 2*len(old)))
	for _, s := range old {
		if s != nil {
			t.place(s)
		}
	}
}

func (t *table) remove(id uint32) {
	mask := uint32(len(t.slots) - 1)
	i := (id >> 1) & mask
	for t.slots[i].id != id {
		i = (i + 1) & mask
	}
	s := t.slots[i]
	s.owner = nil
	t.free = append(t.free, s)
	t.n--
	// Move back what probing would no longer find behind the gap.
	for gap := i; ; {
		i = (i + 1) & mask
		s := t.slots[i]
		if s == nil {
			t.slots[gap] = nil
			break
		}
		if home := (s.id >> 1) & mask; (i-home)&mask >= (i-gap)&mask {
			t.slots[gap] = s
			gap = i
		}
	}
}

// recent remembers how the last streams were closed.
type recent struct {
	ids     []uint32 // a ring; the lowest bit's neighbour says who: see closedByUs
	next    int
	evicted uint32 // the highest identifier that the ring forgot
}

// closedByUs marks an identifier whose stream we reset: the peer may not know yet.
const closedByUs = 1 << 31

func (r *recent) add(id uint32, byUs bool) {
	if byUs {
		id |= closedByUs
	}
	if len(r.ids) < maxRecent {
		r.ids = append(r.ids, id)
		return
	}
	r.evicted = max(r.evicted, r.ids[r.next]&^closedByUs)
	r.ids[r.next] = id
	r.next = (r.next + 1) % maxRecent
}

// closing is what is known of a stream that is not open.
type closing uint8

const (
	neverOpened  closing = iota // passed over by a higher one
	closedByPeer                // it ended on both sides, or the peer reset it
	closedHere                  // we reset it, or nobody knows any more
)

func (r *recent) how(id uint32) closing {
	for _, e := range r.ids {
		switch e {
		case id:
			return closedByPeer
		case id | closedByUs:
			return closedHere
		}
	}
	if id <= r.evicted {
		return closedHere
	}
	return neverOpened
}

// idle reports whether nobody has opened the stream yet.
func (c *Conn) idle(id uint32) bool {
	if theirs := (id&1 == 1) == c.server; theirs {
		return id > c.lastID
	}
	return id >= c.openID || id&1 == 0
}

// close forgets an open stream.
func (c *Conn) close(s *stream, byUs bool) {
	c.growth += s.size - int64(c.settings.StreamWindow)
	c.recent.add(s.id, byUs)
	c.streams.remove(s.id)
}

// endRemote takes in that the peer sends no more.
func (c *Conn) endRemote(s *stream) {
	s.remoteEnd = true
	if s.localEnd {
		c.finish(s)
	}
}

// endLocal takes in that we send no more.
func (c *Conn) endLocal(s *stream) {
	s.localEnd = true
	if s.remoteEnd {
		c.finish(s)
	}
}

func (c *Conn) finish(s *stream) {
	c.budgets.finished()
	c.close(s, false)
}

// streamFault resets a stream for a fault of the peer (RFC 9113 §5.4.2).
func (c *Conn) streamFault(id uint32, code Code, text string, ev *Event) error {
	*ev = Event{Kind: KindReset, Local: true, Stream: id, Code: code, Text: text}
	if s := c.streams.find(id); s != nil {
		ev.Owner = s.owner
		c.close(s, true)
	} else {
		c.recent.add(id, true)
	}
	c.pending = appendUint32Frame(c.pending, frameResetStream, id, uint32(code))
	return c.budgets.spend(streamFaults)
}

func (c *Conn) receiveReset(h frameHeader, p []byte, ev *Event) error {
	switch {
	case h.stream == 0:
		return ErrStreamZero
	case len(p) != 4:
		return ErrFrameLength
	case c.idle(h.stream):
		return ErrIdleStream
	}
	s := c.streams.find(h.stream)
	if s == nil {
		return c.budgets.spend(useless)
	}
	*ev = Event{Kind: KindReset, Stream: s.id, Owner: s.owner, Code: Code(be32(p))}
	premature := c.server && !s.answered
	c.close(s, false)
	if premature {
		_ = c.budgets.spend(resets) // the next stream is refused: see calm
	}
	return nil
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
		_ = c.budgets.spend(resets) // as in receiveReset
	}
	c.close(s, true)
	return appendUint32Frame(out, frameResetStream, id, uint32(code))
}

// Attach gives a stream the owner that its events name. A pointer costs nothing.
func (c *Conn) Attach(id uint32, owner any) {
	if s := c.streams.find(id); s != nil {
		s.owner = owner
	}
}

// Forget closes a stream without a word: after GOAWAY, for one that the peer never saw.
func (c *Conn) Forget(id uint32) {
	if s := c.streams.find(id); s != nil {
		c.close(s, true)
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

// OpenStream opens a stream and returns its identifier, in a client. Its head must be the
// next that is sent: BeginRequest follows under the same lock. Errors: ErrStreamLimit,
// ErrGoingAway, or the connection's own.
func (c *Conn) OpenStream() (uint32, error) {
	switch {
	case c.err != nil:
		return 0, c.err
	case c.server || c.goAwayCame || c.drain.started || c.openID > maxStreamID:
		return 0, ErrGoingAway
	case c.streams.n >= int(min(c.peer.maxStreams, maxStreamID)):
		return 0, ErrStreamLimit
	}
	s := c.streams.add(c.openID)
	c.openID += 2
	s.window = int64(c.peer.initialWindow)
	s.size = int64(c.settings.StreamWindow)
	s.received = s.size
	return s.id, nil
}
