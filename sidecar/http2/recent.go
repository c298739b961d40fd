package http2

// recent remembers how the last streams were closed.
type recent struct {
	ids     []uint32 // a ring; the highest bit, which identifiers do not have, is closedByUs
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
