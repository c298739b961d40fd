package limit

import "sync"

// Shares divides a number of places among holders such that none of them can leave
// nothing to the others: a holder may have up to multiple times what is free. One that
// is alone gets multiple/(multiple+1) of all, two of them that want everything
// multiple/(2*multiple+1) each, and there is always a place for who has none. These are
// the dynamic thresholds of shared-memory switches (Choudhury and Hahne, 1998).
// Its methods may be called concurrently.
type Shares[Holder comparable] struct {
	mu       sync.Mutex
	total    int
	multiple int
	used     int
	held     map[Holder]int // only those that hold something
}

// NewShares divides total places.
func NewShares[Holder comparable](total, multiple int) *Shares[Holder] {
	return &Shares[Holder]{total: total, multiple: multiple, held: map[Holder]int{}}
}

// SetTotal replaces the number of places. What is held stays.
func (s *Shares[Holder]) SetTotal(total int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total = total
}

// Take takes a place for a holder and reports whether there was one for it. Then
// Release must follow.
func (s *Shares[Holder]) Take(h Holder) bool { return s.TakeAll(h, 1) }

// TakeAll takes n places, one at least, or none. Then ReleaseAll must follow.
func (s *Shares[Holder]) TakeAll(h Holder, n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before := n - 1; s.held[h]+before >= s.multiple*(s.total-s.used-before) {
		return false
	}
	s.held[h] += n
	s.used += n
	return true
}

// Release gives a place back.
func (s *Shares[Holder]) Release(h Holder) { s.ReleaseAll(h, 1) }

// ReleaseAll gives n places back.
func (s *Shares[Holder]) ReleaseAll(h Holder, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
	if s.held[h] -= n; s.held[h] == 0 {
		delete(s.held, h)
	}
}

// Held returns how many places a holder has.
func (s *Shares[Holder]) Held(h Holder) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[h]
}

// Used returns how many places are taken, and by how many holders.
func (s *Shares[Holder]) Used() (places, holders int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used, len(s.held)
}
