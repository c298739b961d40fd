package streams

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http2"
)

// Unread is what many connections together hold of what has arrived and nobody has read, and a
// bound of that. The windows bound each connection; nothing bounds how many there are. When
// it is too much, streams are reset (ENHANCE_YOUR_CALM): of the connection that holds most, those
// that hold most. A nil Unread bounds nothing. Its methods may be called concurrently.
//
// A connection that holds little is not asked about every byte: it may hold reportEvery more
// than is known here.
type Unread struct {
	most  int64
	bytes atomic.Int64
	shed  atomic.Int64

	mu    sync.Mutex
	conns map[*Conn]struct{}

	relieving sync.Mutex // who resets streams has it
	relieved  time.Time  // when they were last
}

// NewUnread returns a bound of so many bytes.
func NewUnread(most int64) *Unread { return &Unread{most: most, conns: map[*Conn]struct{}{}} }

// Most returns the bound, in bytes.
func (u *Unread) Most() int64 { return u.most }

// Bytes returns how much memory holds what was not read.
func (u *Unread) Bytes() int64 { return u.bytes.Load() }

// Shed returns how many streams were reset because it was too much.
func (u *Unread) Shed() int64 { return u.shed.Load() }

func (u *Unread) add(c *Conn) {
	if u != nil {
		u.mu.Lock()
		u.conns[c] = struct{}{}
		u.mu.Unlock()
	}
}

// remove is called with c's lock, which nobody takes with mu.
func (u *Unread) remove(c *Conn) {
	if u != nil {
		u.mu.Lock()
		delete(u.conns, c)
		u.mu.Unlock()
	}
}

// heldBytes is what one connection holds of that. The connection's lock guards it; reported is
// for all.
type heldBytes struct {
	bound    *Unread
	bytes    int
	reported atomic.Int64 // of bytes to bound
}

// add notes that so many bytes more are held, or less.
func (h *heldBytes) add(n int) {
	h.bytes += n
	if off := h.bytes - int(h.reported.Load()); h.bound != nil && (off >= reportEvery || off <= -reportEvery || h.bytes == 0 && off != 0) {
		h.reported.Store(int64(h.bytes))
		h.bound.bytes.Add(int64(off))
	}
}

// relieve resets streams when too much is held. It is called without locks by who has read: it
// takes those of other connections.
func (u *Unread) relieve() {
	if u == nil || u.bytes.Load() <= u.most || !u.relieving.TryLock() {
		return // or somebody is at it
	}
	defer u.relieving.Unlock()
	now := time.Now()
	if now.Sub(u.relieved) < relieveEvery {
		return // what was reset is not let go of yet
	}
	u.relieved = now
	excess := u.bytes.Load() - u.most
	for _, c := range u.byHeld() {
		for excess > 0 {
			n, ok := c.shed()
			if !ok {
				break
			}
			excess -= int64(n)
			u.shed.Add(1)
		}
	}
}

// byHeld returns the connections, who holds most first.
func (u *Unread) byHeld() []*Conn {
	u.mu.Lock()
	conns := slices.Collect(maps.Keys(u.conns))
	u.mu.Unlock()
	slices.SortFunc(conns, func(a, b *Conn) int { return cmp.Compare(b.held.reported.Load(), a.held.reported.Load()) })
	return conns
}

// shed ends the stream that holds most, and returns how much of that is let go of; false: none
// holds anything. What a stream's user has at hand is free once it has noticed: that counts when
// it hears of the end only now.
func (c *Conn) shed() (n int, ok bool) {
	c.mu.Lock()
	most := c.streams.mostUnread()
	if most == nil {
		c.mu.Unlock()
		return 0, false
	}
	n, ended := most.shedLocked()
	c.unlockAndWriteElsewhere()
	c.tell(ended)
	return n, true
}

// shedLocked ends a stream such that what of it was not read is lost: also of one that both
// ends have ended, and of one that was broken when all had come. It returns how much is let go
// of, as shed does.
func (s *Stream) shedLocked() (n int, ended []end) {
	err := &ResetError{Code: http2.EnhanceYourCalm}
	if s.err == nil && s.id != 0 {
		s.conn.out.put(s.conn.engine.AppendReset(s.conn.out.buffer(), s.id, err.Code))
	}
	held := s.unread
	s.shed = true
	s.inEnded = false // who reads must not take what is left for all
	if s.breakLocked(err) {
		return held, s.toldLocked(nil, err)
	}
	s.discardLocked()
	s.receiveSide.wake()
	return held - s.unread, nil
}
