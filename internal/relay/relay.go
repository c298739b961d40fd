package relay

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// ErrIdle is why Copy ends a path on which nothing moved for the idle timeout.
var ErrIdle = errors.New("nothing moved for the idle timeout")

// Stats are the bytes that arrived at either end.
type Stats struct {
	AToB, BToA int64
}

// Copy moves bytes between a and b until both directions have ended, then
// closes both. When one direction fails, when ctx ends, or when nothing moves
// for idle (0: no limit), both are aborted (see [Abort]) and the first cause is
// returned. Copy owns a and b from the call on and returns when no goroutine of
// its own touches them any more; read deadlines set before are the caller's to
// clear.
func Copy(ctx context.Context, a, b Conn, idle time.Duration) (Stats, error) {
	return CopyUntilQuiet(ctx, context.Background(), a, b, idle)
}

// CopyUntilQuiet is Copy for a path that may have to make room: once late ends,
// the path is closed, without an error, at the first moment at which b had the
// last word and nothing has moved for a while. For what asks at a and answers at
// b that is between two exchanges, when a peer expects its connection to be
// closed if ever.
func CopyUntilQuiet(ctx, late context.Context, a, b Conn, idle time.Duration) (Stats, error) {
	p := &pair{a: a, b: b, idle: idle, done: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { p.abort(context.Cause(ctx)) })
	defer stop()
	if idle > 0 {
		w := watch(p, idle)
		defer w.stop()
	}

	watched := make(chan struct{})
	unhook := context.AfterFunc(late, func() {
		defer close(watched)
		p.closeWhenQuiet()
	})
	defer func() {
		close(p.done)
		if !unhook() {
			<-watched
		}
	}()

	p.running.Add(2)
	there, back := &direction{pair: p, dst: b, src: a}, &direction{pair: p, dst: a, src: b, answers: true}
	go there.run()
	go back.run()
	p.running.Wait()
	stats := Stats{AToB: there.n, BToA: back.n}

	if err := p.cause(); err != nil {
		return stats, err
	}
	// Both directions ended cleanly: all that was queued before CloseWrite is
	// still delivered by Close.
	_ = a.Close()
	_ = b.Close()
	return stats, nil
}

// pair is one pair of connections being copied.
type pair struct {
	a, b  Conn
	idle  time.Duration // after which the path ends, 0: never
	moved atomic.Bool   // something was read or written since the watchdog's last look

	stirred  atomic.Bool // something was read since closeWhenQuiet's last look
	lastWord atomic.Bool // of b
	writing  atomic.Int32
	running  sync.WaitGroup // directions that have not ended
	done     chan struct{}

	mu    sync.Mutex
	ended bool  // closed or aborted by us: what reads and writes say from now on does not count
	err   error // why it was aborted
}

// abort ends both sides with an error.
func (p *pair) abort(err error) {
	p.mu.Lock()
	first := !p.ended
	if first {
		p.ended, p.err = true, err
	}
	p.mu.Unlock()
	if first {
		Abort(p.a)
		Abort(p.b)
	}
}

// closeWhenQuiet closes the path at its next quiet moment, or returns when it
// has ended before.
func (p *pair) closeWhenQuiet() {
	tick := time.NewTicker(quietTime)
	defer tick.Stop()
	p.stirred.Store(true) // the first look is no measure
	for {
		select {
		case <-p.done:
			return
		case <-tick.C:
		}
		if p.stirred.Swap(false) || !p.lastWord.Load() || p.writing.Load() > 0 {
			continue
		}
		p.mu.Lock()
		first := !p.ended
		p.ended = true
		p.mu.Unlock()
		if first {
			_ = p.a.Close()
			_ = p.b.Close()
		}
		return
	}
}

func (p *pair) cause() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
