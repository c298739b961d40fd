package http2

// table finds open streams by their identifiers: open addressing with linear probing,
// because identifiers come in order and leave soon. Streams that are closed are kept for
// those to come, until Conn.Trim.
type table struct {
	slots []*stream // a power of two of them, at most half full
	n     int
	spare []*stream // closed ones
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
	if last := len(t.spare) - 1; last >= 0 {
		s, t.spare = t.spare[last], t.spare[:last]
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
	t.spare = append(t.spare, s)
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
