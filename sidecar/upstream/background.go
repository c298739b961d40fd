package upstream

import (
	"context"
	"sync"
)

// background are the goroutines of upstreams that no request waits for: they open paths ahead,
// show renewed certificates and make shared connections. There are maxRenewing of them at most.
// Its methods may be called concurrently.
type background struct {
	ctx    context.Context
	cancel context.CancelFunc
	places chan struct{} // a token for each goroutine

	mu      sync.Mutex
	stopped bool
	running sync.WaitGroup
}

func newBackground() *background {
	b := &background{places: make(chan struct{}, maxRenewing)}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// do runs f on a goroutine and reports whether there is a place for it.
func (b *background) do(f func(context.Context)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return false
	}
	select {
	case b.places <- struct{}{}:
	default:
		return false
	}
	b.running.Go(func() {
		defer func() { <-b.places }()
		f(b.ctx)
	})
	return true
}

// stop ends what runs and waits for it.
func (b *background) stop() {
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	b.cancel()
	b.running.Wait()
}
