package exchange

import "sync"

// replay is the buffer of an upload: what has arrived and may have to be sent again.
type replay struct {
	buf   []byte // small or large; nil: given back
	small *[smallReplay]byte
	large *[replaySize]byte
}

var (
	smallReplays = sync.Pool{New: func() any { return new([smallReplay]byte) }}
	replays      = sync.Pool{New: func() any { return new([replaySize]byte) }}
)

// take takes a buffer in which n bytes have room to be followed by others: a small one, of
// which many are held at a time, for a stream.
func (r *replay) take(end clientEnd, n int) {
	if _, ok := end.(*clientStream); ok && n <= smallReplay-minRead {
		r.small = smallReplays.Get().(*[smallReplay]byte)
		r.buf = r.small[:]
		return
	}
	r.large = replays.Get().(*[replaySize]byte)
	r.buf = r.large[:]
}

// grow makes a small buffer a large one, and reports whether it was one.
func (r *replay) grow() bool {
	if r.large != nil {
		return false
	}
	large := replays.Get().(*[replaySize]byte)
	copy(large[:], r.buf)
	r.give()
	r.large, r.buf = large, large[:]
	return true
}

// give gives the buffer back.
func (r *replay) give() {
	if r.small != nil {
		smallReplays.Put(r.small)
	}
	if r.large != nil {
		replays.Put(r.large)
	}
	*r = replay{}
}
