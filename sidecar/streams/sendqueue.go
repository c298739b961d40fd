package streams

import "sync"

// batch is what is written at once.
type batch struct{ buf []byte }

var batches = sync.Pool{New: func() any { return &batch{make([]byte, 0, maxQueue)} }}

func (b *batch) release() {
	if cap(b.buf) <= keepQueue {
		b.buf = b.buf[:0]
		batches.Put(b)
	}
}

// sendQueue is what waits to be written to a connection, and who waits to append to it. The
// connection's lock guards it.
type sendQueue struct {
	batch  *batch // nil: nothing waits, and no memory is held: who waits for a window may do so for long
	queued uint64 // bytes, since the beginning
	taken  uint64 // of them, by who writes
	turns  turns
}

// buffer returns what waits, for the engine to append to: put takes the result.
func (q *sendQueue) buffer() []byte {
	if q.batch == nil {
		q.batch = batches.Get().(*batch)
	}
	return q.batch.buf
}

// put makes b, which buffer gave and which may have grown, what waits.
func (q *sendQueue) put(b []byte) {
	q.queued += uint64(len(b) - len(q.batch.buf))
	if q.batch.buf = b; len(b) == 0 {
		q.batch.release()
		q.batch = nil
	}
}

// len returns how many bytes wait.
func (q *sendQueue) len() int {
	if q.batch == nil {
		return 0
	}
	return len(q.batch.buf)
}

// take returns all that waits, to be written; nil: nothing does.
func (q *sendQueue) take() *batch {
	b := q.batch
	if b == nil {
		return nil
	}
	q.batch = nil
	q.taken += uint64(len(b.buf))
	q.wakeNext()
	return b
}

// drop forgets what waits.
func (q *sendQueue) drop() {
	if q.batch != nil {
		q.batch.release()
		q.batch = nil
	}
}

// free reports whether w may append payload, or a head.
func (q *sendQueue) free(w *sendSide) bool {
	return q.len() < maxQueue && (q.turns.first == nil || q.turns.first == w)
}

// leave ends w's turn, and wakes who is next.
func (q *sendQueue) leave(w *sendSide) {
	q.turns.remove(w)
	q.wakeNext()
}

// wakeNext wakes whose turn it is, if there is room.
func (q *sendQueue) wakeNext() {
	if w := q.turns.first; w != nil && q.len() < maxQueue {
		w.wake()
	}
}
