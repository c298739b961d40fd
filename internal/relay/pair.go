package relay

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/epoll"
)

// ErrAborted is why a path ended that others have ended.
var ErrAborted = errors.New("the path was cut")

// Pair is one pair of connections being copied, for a path that may be idle for long: it costs
// nobody's stack, no timer and no hook of a context. The zero value is ready for one
// [Pair.Start]; the other methods may be called concurrently, also before it.
type Pair struct {
	a, b    Conn
	over    func(Stats, error)
	waiting *epoll.Set // nil: directions wait in a Read
	there   direction
	back    direction
	idle    time.Duration // after which the path ends, 0: never
	movedAt time.Time     // as far as Look knows
	moved   atomic.Bool   // something was read or written since Look

	stirred  atomic.Bool // something was read since closeWhenQuiet's last look
	lastWord atomic.Bool // of b
	writing  atomic.Int32
	running  atomic.Int32 // directions that have not ended

	mu       sync.Mutex
	finished bool  // closed or aborted by us: what reads and writes say from now on does not count
	err      error // why it was aborted
}

// Start is [Copy] and returns at once. over is called once, by the goroutine that ends last,
// with what Copy returns; who calls Start waits for it. Plain sockets wait in waiting while
// they are idle; nil: they do not. A path ends by its ends or by [Pair.Abort]: whoever closes a or b
// must call that. idle counts as far as [Pair.Look] is called.
func (p *Pair) Start(waiting *epoll.Set, a, b Conn, idle time.Duration, over func(Stats, error)) {
	p.mu.Lock()
	p.waiting, p.idle, p.over = waiting, idle, over
	p.a, p.b = a, b
	p.there = direction{pair: p, dst: b, src: a}
	p.back = direction{pair: p, dst: a, src: b, answers: true}
	p.moved.Store(true)
	p.running.Store(2)
	if p.finished { // before it has begun
		Abort(a)
		Abort(b)
	}
	p.mu.Unlock()
	go p.there.run()
	go p.back.run()
}

// Look ends a path on which nothing has moved for the idle timeout, as far as such looks
// tell: they come from one goroutine, now and then.
func (p *Pair) Look(now time.Time) {
	p.mu.Lock()
	idle := p.idle
	p.mu.Unlock()
	if idle == 0 {
		return // or it has not begun
	}
	if p.moved.Swap(false) {
		p.movedAt = now
	} else if now.Sub(p.movedAt) >= idle {
		p.abort(ErrIdle)
	}
}

// Abort ends both sides with an error, unless the path is over.
func (p *Pair) Abort() error {
	p.abort(ErrAborted)
	return nil
}

// ended notes that a direction has. The last one ends the path.
func (p *Pair) ended() {
	if p.running.Add(-1) > 0 {
		return
	}
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

// abort is Abort with the reason. It holds the lock until both are ended, so that over is
// called after that.
func (p *Pair) abort(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.finished {
		return
	}
	p.finished, p.err = true, err
	if p.a == nil {
		return // Start does the rest
	}
	Abort(p.a)
	Abort(p.b)
	p.wakeLocked()
}

// wakeLocked has directions that wait for a socket find that it is closed.
func (p *Pair) wakeLocked() {
	if p.waiting != nil {
		p.waiting.Wake(&p.there.place)
		p.waiting.Wake(&p.back.place)
	}
}

// wait has d go on when its source's socket can be read. It reports whether it does.
func (p *Pair) wait(d *direction) bool {
	socket := Socket(Source(d.src))
	if socket == nil || p.waiting == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.finished && p.waiting.Wait(&d.place, socket, time.Time{}, d.goOn) == nil
}

// closeWhenQuiet closes the path at its next quiet moment, or returns when it
// has ended before.
func (p *Pair) closeWhenQuiet(done <-chan struct{}) {
	tick := time.NewTicker(quietTime)
	defer tick.Stop()
	p.stirred.Store(true) // the first look is no measure
	for {
		select {
		case <-done:
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
