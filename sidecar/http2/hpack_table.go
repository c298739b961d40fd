package http2

// hpackTable is a dynamic table (RFC 7541 §2.3.2): fields in the order in which they
// came, the oldest evicted first. Names and values lie one behind the other in bytes.
type hpackTable struct {
	entries []hpackEntry // from first on
	first   int
	bytes   []byte // those of entries, from somewhere on
	base    uint32 // the position of bytes[0]; positions wrap around
	size    int    // RFC 7541 §4.1
	max     int
}

type hpackEntry struct {
	at          uint32 // position of the name; the value is behind it
	hash        uint32 // the encoder's
	name, value uint16 // lengths, below tableSize
}

const (
	hpackOverhead = 32 // a field, RFC 7541 §4.1
	maxArena      = 2 * tableSize
)

func (t *hpackTable) len() int { return len(t.entries) - t.first }

// at returns the ith field, the newest is 0.
func (t *hpackTable) at(i int) (name, value []byte) {
	e := &t.entries[len(t.entries)-1-i]
	from := e.at - t.base
	split := from + uint32(e.name)
	return t.bytes[from:split:split], t.bytes[split : split+uint32(e.value)]
}

// setMax changes the bound and evicts what is beyond.
func (t *hpackTable) setMax(n int) {
	t.max = n
	t.evict(0)
}

// evict makes room for a field of n bytes.
func (t *hpackTable) evict(n int) {
	for t.size+n > t.max && t.first < len(t.entries) {
		e := &t.entries[t.first]
		t.size -= int(e.name) + int(e.value) + hpackOverhead
		t.first++
	}
	switch {
	case t.first == len(t.entries):
		t.entries, t.first = t.entries[:0], 0
	case t.first >= 64: // as many as can be live at most are copied at a time
		t.entries = t.entries[:copy(t.entries, t.entries[t.first:])]
		t.first = 0
	}
}

// add puts a field in front; one that does not fit empties the table (RFC 7541 §4.4).
// name and value must not lie in the table.
func (t *hpackTable) add(name, value []byte, hash uint32) {
	n := len(name) + len(value)
	t.evict(n + hpackOverhead)
	if n+hpackOverhead > t.max {
		return
	}
	if len(t.bytes)+n > maxArena {
		t.compact()
	}
	t.entries = append(t.entries, hpackEntry{at: t.base + uint32(len(t.bytes)), hash: hash, name: uint16(len(name)), value: uint16(len(value))})
	t.bytes = append(append(t.bytes, name...), value...)
	t.size += n + hpackOverhead
}

// compact drops the bytes of fields that were evicted.
func (t *hpackTable) compact() {
	from := uint32(len(t.bytes))
	if t.len() > 0 {
		from = t.entries[t.first].at - t.base
	}
	t.bytes = t.bytes[:copy(t.bytes, t.bytes[from:])]
	t.base += from
}
