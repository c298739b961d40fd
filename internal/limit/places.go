package limit

import (
	"context"
	"sync"
)

// Places bounds what is done at a time: in all, and of what one K asks for, so that who
// asks for much waits behind itself. Its methods may be called concurrently.
type Places[K comparable] struct {
	all chan struct{} // holds one entry for each place that is taken
	own int           // how many of them one K may have

	mu sync.Mutex
	of map[K]*asking // of those that ask
}

// asking is what one K has.
type asking struct {
	places chan struct{} // holds one entry for each place that it has, or asks for as its next
	n      int           // with those that wait; guarded by Places.mu
}

// NewPlaces returns so many places, of which one K has own at most.
func NewPlaces[K comparable](all, own int) *Places[K] {
	return &Places[K]{all: make(chan struct{}, all), own: own, of: map[K]*asking{}}
}

// Take waits for a place; false: ctx ended before. Who got one gives it back once.
func (p *Places[K]) Take(ctx context.Context, k K) (giveBack func(), ok bool) {
	own := p.enter(k)
	if !take(ctx, own.places) {
		p.leave(k)
		return nil, false
	}
	if !take(ctx, p.all) {
		<-own.places
		p.leave(k)
		return nil, false
	}
	return func() { <-p.all; <-own.places; p.leave(k) }, true
}

func take(ctx context.Context, places chan struct{}) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *Places[K]) enter(k K) *asking {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.of[k]
	if a == nil {
		a = &asking{places: make(chan struct{}, p.own)}
		p.of[k] = a
	}
	a.n++
	return a
}

func (p *Places[K]) leave(k K) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[k].n--; p.of[k].n == 0 {
		delete(p.of, k)
	}
}
