package webhook

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/limit"
)

// turns bound the questions that are answered at a time, in all and of one source: who asks
// is not known, and a body may come slowly. Safe for concurrent use.
type turns struct {
	all chan struct{}

	mu sync.Mutex
	of map[limit.Source]*share // of those that ask
}

// share is what one source has.
type share struct {
	running chan struct{}
	asking  int // with those that wait; guarded by turns.mu
}

func newTurns() *turns {
	return &turns{all: make(chan struct{}, maxReviews), of: map[limit.Source]*share{}}
}

// take waits until the question may be answered; false: it may not. Who may gives it back.
func (t *turns) take(r *http.Request) (giveBack func(), ok bool) {
	var from limit.Source
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		from = limit.SourceOf(net.TCPAddrFromAddrPort(at))
	}
	own := t.enter(from)
	patience := time.NewTimer(reviewPatience)
	defer patience.Stop()
	wait := func(places chan struct{}) bool {
		select {
		case places <- struct{}{}:
			return true
		default:
		}
		select {
		case places <- struct{}{}:
			return true
		case <-patience.C:
		case <-r.Context().Done():
		}
		return false
	}
	if !wait(own.running) {
		t.leave(from)
		return nil, false
	}
	if !wait(t.all) {
		<-own.running
		t.leave(from)
		return nil, false
	}
	return func() { <-t.all; <-own.running; t.leave(from) }, true
}

func (t *turns) enter(from limit.Source) *share {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.of[from]
	if s == nil {
		s = &share{running: make(chan struct{}, maxOfSource)}
		t.of[from] = s
	}
	s.asking++
	return s
}

func (t *turns) leave(from limit.Source) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.of[from]; s.asking == 1 {
		delete(t.of, from)
	} else {
		s.asking--
	}
}
