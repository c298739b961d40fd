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
func CopyUntilQuiet(ctx, late context.Context, a, b Conn, idle time.Duration) (stats Stats, err error) {
	p := &pair{a: a, b: b, idle: idle, done: make(chan struct{})}
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

	over := make(chan struct{})
	p.over = func(s Stats, why error) {
		stats, err = s, why
		close(over)
	}
	p.start(ctx)
	<-over
	return stats, err
}

// Start is Copy for a path that may be idle for long: it returns at once, so that nobody's
// stack waits. over is called once, by the goroutine that ends last, with what Copy returns;
// who calls Start waits for it.
func Start(ctx context.Context, a, b Conn, idle time.Duration, over func(Stats, error)) {
	p := &pair{a: a, b: b, idle: idle, over: over}
	p.start(ctx)
}

// pair is one pair of connections being copied.
type pair struct {
	a, b   Conn
	over   func(Stats, error)
	unhook func() bool // from the context
	there  direction
	back   direction
	idle   time.Duration // after which the path ends, 0: never
	moved  atomic.Bool   // something was read or written since the watchdog's last look

	stirred  atomic.Bool // something was read since closeWhenQuiet's last look
	lastWord atomic.Bool // of b
	writing  atomic.Int32
	running  atomic.Int32  // directions that have not ended
	watchdog *watchdog     // nil without idle
	done     chan struct{} // of closeWhenQuiet

	mu       sync.Mutex
	finished bool  // closed or aborted by us: what reads and writes say from now on does not count
	err      error // why it was aborted
}

// start has both directions run.
func (p *pair) start(ctx context.Context) {
	p.unhook = context.AfterFunc(ctx, func() { p.abort(context.Cause(ctx)) })
	if p.idle > 0 {
		p.watchdog = watch(p, p.idle)
	}
	p.there = direction{pair: p, dst: p.b, src: p.a}
	p.back = direction{pair: p, dst: p.a, src: p.b, answers: true}
	p.running.Store(2)
	go p.there.run()
	go p.back.run()
}

// ended notes that a direction has. The last one ends the path.
func (p *pair) ended() {
	if p.running.Add(-1) > 0 {
		return
	}
	if p.watchdog != nil {
		p.watchdog.stop()
	}
	p.unhook()
	p.mu.Lock()
	p.finished = true // a late abort finds a and b to be others'
	err := p.err
	p.mu.Unlock()
	if err == nil {
		// Both directions ended cleanly: all that was queued before CloseWrite is
		// still delivered by Close.
		_ = p.a.Close()
		_ = p.b.Close()
	}
	p.over(Stats{AToB: p.there.n, BToA: p.back.n}, err)
}

// abort ends both sides with an error. It holds the lock until both are, so that over is
// called after that.
func (p *pair) abort(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.finished {
		return
	}
	p.finished, p.err = true, err
	Abort(p.a)
	Abort(p.b)
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
		first := !p.finished
		p.finished = true
		p.mu.Unlock()
		if first {
			_ = p.a.Close()
			_ = p.b.Close()
		}
		return
	}
}
