package upstream

import (
	"context"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
)

// queue are the requests that wait for a path through a gateway: in a burst most paths are
// free again before a new one could be open, which costs two handshakes. The pool's lock
// guards it.
type queue struct {
	waiting []chan *Conn // each with room for one
	since   instant      // when the first came of those who have waited without a break
	widens  bool         // a path is being opened because of them
	opening int
	took    time.Duration // an exchange, of late
	opened  time.Duration // to open a path, of late; 0: not known
}

// learn moves an average towards a sample.
func learn(average *time.Duration, sample time.Duration) {
	if *average == 0 {
		*average = sample
	}
	*average += (sample - *average) / 8
}

// patience returns for how long a request that finds no path waits for one; 0: it opens its own.
// It waits when one is expected sooner than a new one would be open, or not much
// later when none is open at all. busy is how many are in use.
func (q *queue) patience(busy int) time.Duration {
	paths := busy + q.opening
	if paths == 0 || q.opened == 0 || q.took == 0 {
		return 0
	}
	expected, limit := q.took, q.opened
	if busy == 0 {
		expected, limit = q.opened, 2*q.opened
	}
	expected += q.took * time.Duration(len(q.waiting)) / time.Duration(paths)
	if expected >= limit {
		return 0
	}
	return min(limit, maxPatience)
}

// await waits for a path that another request gives back, and returns nil when it is time to
// open one.
func (p *pool) await(ctx context.Context) *Conn {
	p.mu.Lock()
	patience := p.queue.patience(p.instances.busy())
	if patience == 0 || p.closed {
		p.mu.Unlock()
		return nil
	}
	mine := make(chan *Conn, 1)
	now := p.shared.now()
	if len(p.queue.waiting) == 0 {
		p.queue.since = now
	}
	p.queue.waiting = append(p.queue.waiting, mine)
	widen := !p.queue.widens && now.since(p.queue.since) >= p.queue.opened
	p.queue.widens = p.queue.widens || widen
	p.mu.Unlock()
	if widen {
		p.widen()
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case c := <-mine:
		return c
	case <-timer.C:
	case <-ctx.Done():
	}
	return p.leave(mine)
}

// widen opens one more path in the background: somebody has waited all the time for as long as
// that takes, so that there are too few for what is asked, and each who waits might do so for ever.
func (p *pool) widen() {
	ran := p.shared.background.do(func(ctx context.Context) {
		began := p.shared.now()
		p.opening()
		_, _, ok := p.openAhead(ctx, connect.Instance{})
		p.opened(began, p.shared.now(), ok)
		p.widened()
	})
	if !ran { // all places are taken
		p.widened()
	}
}

func (p *pool) widened() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue.widens, p.queue.since = false, p.shared.now()
}

// leave ends a wait. It returns what has come meanwhile.
func (p *pool) leave(mine chan *Conn) *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.queue.waiting {
		if other == mine {
			p.queue.waiting = append(p.queue.waiting[:i], p.queue.waiting[i+1:]...)
			return nil
		}
	}
	return <-mine
}

// handLocked gives c to who waits first, and reports whether somebody does.
func (p *pool) handLocked(c *Conn, i *instance, now instant) bool {
	if len(p.queue.waiting) == 0 {
		return false
	}
	first := p.queue.waiting[0]
	p.queue.waiting = p.queue.waiting[1:]
	c.instance = i
	p.instances.charge(i)
	c.taken = now
	first <- c
	return true
}

// takeOrAwait returns an idle connection, or of a gateway one that is given back soon; nil: the
// request opens its own.
func (p *pool) takeOrAwait(ctx context.Context, a *Attempts) *Conn {
	config, once := p.host.service.dialConfig.Load(), a != nil && a.once
	if c := p.take(a.moment(p.shared), config, once); c != nil || !p.host.key.gateway || a == nil {
		return c
	}
	c := p.await(ctx)
	if c == nil {
		return nil
	}
	if now := p.shared.now(); c.expires != 0 && now >= c.expires || !c.trusted() || once && !p.quiet(c, now) {
		c.instance.active.Add(-1)
		_ = c.Close()
		return nil
	}
	return c
}

// opening notes that a path is being opened.
func (p *pool) opening() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue.opening++
}

// opened notes that the opening of a path has ended, which began at then; ok says that there is
// one.
func (p *pool) opened(then, now instant, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue.opening--
	if ok {
		learn(&p.queue.opened, now.since(then))
	}
}
