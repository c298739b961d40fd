package limit

import (
	"cmp"
	"container/heap"
	"errors"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// ErrShed is why a connection ended of which nobody knew yet whose it is.
var ErrShed = errors.New("cut before its peer has said who it is: too many such connections, or too few file descriptors")

// Strangers are the connections of one port whose peers have not said who they are
// yet. Its methods may be called concurrently, and on nil, which bounds nothing.
type Strangers struct {
	max  int
	open prometheus.Gauge
	shed func() // counts one

	mu      sync.Mutex
	all     int
	cut     int        // were ended and are not gone: they hold what they have a little longer
	gone    *sync.Cond // signalled when one of those is
	number  uint64     // of the next one
	sources map[Source]*crowd
	order   crowds // the one to lose a stranger next is first
}

// Stranger is one of them.
type Stranger struct {
	of     *Strangers
	end    func(cause error)
	number uint64 // who came earlier has a smaller one

	// Guarded by of.mu.
	crowd      *crowd // nil: known, cut, or gone
	cut        bool   // counts in of.cut
	prev, next *Stranger
}

// crowd is the strangers of one source, oldest first; never empty.
type crowd struct {
	source      Source
	n           int
	first, last *Stranger
	at          int // in order
}

// Meet counts a stranger from addr. When there are as many as may be, another one is
// ended to make room, see the package comment. end cuts the connection at once; it is
// called once at most, with ErrShed, by any goroutine and without a lock.
// [Stranger.Known] must follow. Meet waits while as many as may be were cut and are not
// gone yet.
func (s *Strangers) Meet(addr net.Addr, end func(cause error)) *Stranger {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	for s.cut >= s.max {
		s.gone.Wait()
	}
	var victim *Stranger
	if s.all >= s.max {
		victim = s.takeLocked()
	}
	who := &Stranger{of: s, end: end, number: s.number}
	s.number++
	s.addLocked(SourceOf(addr), who)
	s.mu.Unlock()
	if victim != nil {
		s.shed()
		victim.end(ErrShed)
	}
	return who
}

// Known says that the peer is no stranger any more: it has proved who it is, or is
// gone. Further calls do nothing, as do those on nil.
func (w *Stranger) Known() {
	if w == nil {
		return
	}
	s := w.of
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removeLocked(w)
	if w.cut {
		w.cut = false
		s.cut--
		s.gone.Signal()
	}
}

// Yield makes room for one from addr: it ends the stranger that goes next, if its source
// has more of them than that of addr would have then, and reports whether it did.
func (s *Strangers) Yield(addr net.Addr) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	own := 1
	if c := s.sources[SourceOf(addr)]; c != nil {
		own += c.n
	}
	if len(s.order) == 0 || s.order[0].n <= own {
		s.mu.Unlock()
		return false
	}
	victim := s.takeLocked()
	s.mu.Unlock()
	s.shed()
	victim.end(ErrShed)
	return true
}

// Shed ends the half of the strangers, those of the sources that hold most, and
// returns how many these were: descriptors are short. While those that were cut before
// are not gone it ends nobody, and returns how many these are.
func (s *Strangers) Shed() int {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	if n := s.cut; n > 0 {
		s.mu.Unlock()
		return n
	}
	victims := make([]*Stranger, (s.all+1)/2)
	for i := range victims {
		victims[i] = s.takeLocked()
	}
	s.mu.Unlock()
	for _, v := range victims {
		s.shed()
		v.end(ErrShed)
	}
	return len(victims)
}

func (s *Strangers) addLocked(source Source, w *Stranger) {
	c := s.sources[source]
	if c == nil {
		c = &crowd{source: source, first: w}
		s.sources[source] = c
		w.crowd, c.last, c.n = c, w, 1
		heap.Push(&s.order, c)
	} else {
		w.crowd, w.prev, c.last.next = c, c.last, w
		c.last = w
		c.n++
		heap.Fix(&s.order, c.at)
	}
	s.all++
	s.open.Set(float64(s.all))
}

// takeLocked removes the stranger that goes next and returns it. There is one.
func (s *Strangers) takeLocked() *Stranger {
	w := s.order[0].first
	s.removeLocked(w)
	w.cut = true
	s.cut++
	return w
}

func (s *Strangers) removeLocked(w *Stranger) {
	c := w.crowd
	if c == nil {
		return
	}
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		c.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		c.last = w.prev
	}
	w.crowd, w.prev, w.next = nil, nil, nil
	if c.n--; c.n == 0 {
		heap.Remove(&s.order, c.at)
		delete(s.sources, c.source)
	} else {
		heap.Fix(&s.order, c.at)
	}
	s.all--
	s.open.Set(float64(s.all))
}

// crowds is a heap: the largest crowd is first, of equal ones that with the oldest
// stranger.
type crowds []*crowd

func (h crowds) Len() int { return len(h) }

func (h crowds) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[j].n, h[i].n), cmp.Compare(h[i].first.number, h[j].first.number)) < 0
}

func (h crowds) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push is part of heap.Interface.
func (h *crowds) Push(x any) {
	c := x.(*crowd)
	c.at = len(*h)
	*h = append(*h, c)
}

// Pop is part of heap.Interface.
func (h *crowds) Pop() any {
	last := len(*h) - 1
	c := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return c
}
