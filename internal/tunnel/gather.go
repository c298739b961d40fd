package tunnel

import (
	"runtime"
	"sync"
)

// gather has what several streams of a connection write at the same moment leave together.
// quic-go makes a packet as soon as one stream has something to send, and whom it wakes
// for that runs before all others: without this every small message would cost a packet of its own,
// encrypted, sent, received and acknowledged by itself. The first who writes lets others run once
// that can, and then queues for all of them what they have written meanwhile.
type gather struct {
	mu      sync.Mutex
	waiting []*Stream // who writes, the first one first; the buffer of queue
	queued  []*Stream // the buffer of waiting
}

// write queues s.small on s, and returns [quic.ErrWouldBlock] when there is no room for all of it.
// The caller holds s.writing.
func (g *gather) write(s *Stream) error {
	g.mu.Lock()
	g.waiting = append(g.waiting, s)
	first := len(g.waiting) == 1
	g.mu.Unlock()
	if !first {
		return <-s.queued
	}
	runtime.Gosched()
	g.mu.Lock()
	together := g.waiting
	g.waiting, g.queued = g.queued[:0], nil
	g.mu.Unlock()
	err := s.quic.TryWriteAll(s.small)
	for _, other := range together[1:] {
		other.queued <- other.quic.TryWriteAll(other.small)
	}
	clear(together)
	g.mu.Lock()
	g.queued = together
	g.mu.Unlock()
	return err
}
