package streams

import "sync"

// kind is what a chunk holds.
type kind uint8

const (
	payload   kind = iota
	head           // the text of a request's or an answer's head, whole
	largeHead      // one that was too large, without its text
	trailers       // the text of the fields behind a body, whole
)

// chunk is a piece of what a stream has received and nobody has read yet:
// buf[from:to]. It belongs to whoever took it out of its list.
type chunk struct {
	next     *chunk
	kind     kind
	from, to int
	buf      []byte
}

var (
	smallChunks = sync.Pool{New: func() any { return &chunk{buf: make([]byte, smallChunk)} }}
	largeChunks = sync.Pool{New: func() any { return &chunk{buf: make([]byte, largeChunk)} }}
)

// newChunk returns an empty chunk with room for n bytes.
func newChunk(k kind, n int) *chunk {
	var c *chunk
	switch {
	case n <= smallChunk:
		c = smallChunks.Get().(*chunk)
	case n <= largeChunk:
		c = largeChunks.Get().(*chunk)
	default:
		c = &chunk{buf: make([]byte, n)}
	}
	c.kind = k
	return c
}

// release gives the chunk back.
func (c *chunk) release() {
	c.next, c.from, c.to = nil, 0, 0
	switch len(c.buf) {
	case smallChunk:
		smallChunks.Put(c)
	case largeChunk:
		largeChunks.Put(c)
	}
}

// chunks is a list of chunks in the order in which they arrived.
type chunks struct{ first, last *chunk }

// add appends b, and returns how much more memory is held for that. Payload goes into the last
// chunk while that has room: many small frames cost their bytes, and not a chunk each.
func (l *chunks) add(k kind, b []byte) int {
	if k == payload && l.last != nil && l.last.kind == payload {
		n := copy(l.last.buf[l.last.to:], b)
		l.last.to += n
		if b = b[n:]; len(b) == 0 {
			return 0
		}
	}
	c := newChunk(k, len(b))
	c.to = copy(c.buf, b)
	if l.last == nil {
		l.first = c
	} else {
		l.last.next = c
	}
	l.last = c
	return len(c.buf)
}

// takeAll empties the list and returns what was in it.
func (l *chunks) takeAll() *chunk {
	c := l.first
	*l = chunks{}
	return c
}

// releaseAll gives back c and all behind it.
func releaseAll(c *chunk) {
	for c != nil {
		next := c.next
		c.release()
		c = next
	}
}
