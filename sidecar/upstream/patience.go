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
	hopeful int           // of opening, those that may have room for several requests
	alone   bool          // the last of those has not
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

// ended learns what an exchange took.
func (q *queue) ended(took time.Duration) { learn(&q.took, min(took, maxTook)) }

// patience returns for how long a request that finds no path waits for one; 0: it opens its own.
// It waits when one is expected sooner than a new one would be open, or not much
// later when none is open at all, and for one that is being opened and has room. busy is how
// many requests run.
func (q *queue) patience(busy int) time.Duration {
	if len(q.waiting) < q.hopeful*(maxPathStreams-1) {
		return max(2*q.opened, maxPatience)
	}
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
func (p *pool) await(ctx context.Context, a *Attempts) *Conn {
	p.mu.Lock()
	patience := p.queue.patience(p.instances.busy())
	if patience == 0 || p.closed {
		p.hopeLocked(a)
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
		p.widen(connect.Instance{})
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case c := <-mine:
		return c
	case <-timer.C:
	case <-ctx.Done():
	}
	return p.leave(mine, a)
}

// hopeLocked counts the path that a opens next, so that those who come before it is being opened
// wait for it as well.
func (p *pool) hopeLocked(a *Attempts) {
	if !p.queue.alone && p.host.sharesPaths(p.host.service.dialConfig.Load(), a) {
		p.queue.hopeful++
		a.hopes = true
	}
}

// widen opens one more path in the background, to who unless that is zero: somebody has waited all the
// time for as long as that takes, so that there are too few for what is asked, and each who waits might
// do so for ever; or requests share paths while there are few.
func (p *pool) widen(who connect.Instance) {
	ran := p.shared.background.do(func(ctx context.Context) {
		_, _, _ = p.openMore(ctx, who, false)
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

// leave ends a wait of a. It returns what has come meanwhile.
func (p *pool) leave(mine chan *Conn, a *Attempts) *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.queue.waiting {
		if other == mine {
			p.queue.waiting = append(p.queue.waiting[:i], p.queue.waiting[i+1:]...)
			p.hopeLocked(a)
			return nil
		}
	}
	return <-mine
}

// handLocked gives c to those who wait, as many as it takes, and reports whether anybody has it.
func (p *pool) handLocked(c *Conn, i *instance, now instant) bool {
	config := p.host.service.dialConfig.Load()
	for len(p.queue.waiting) > 0 && c.leased < max(c.most, 1) && (c.mux == nil || p.goodLocked(c, now, config)) {
		first := p.queue.waiting[0]
		p.queue.waiting = p.queue.waiting[1:]
		p.useLocked(c, i, now)
		first <- c
		if c.mux == nil {
			return true
		}
	}
	return c.leased > 0
}

// takeOrAwait returns an idle connection, or of a gateway one that is given back soon; nil: the
// request opens its own.
func (p *pool) takeOrAwait(ctx context.Context, a *Attempts) *Conn {
	config, once, stream := p.host.service.dialConfig.Load(), a != nil && a.once, a != nil && a.streams
	if c := p.take(a.moment(p.shared), config, once, stream); c != nil || !p.host.key.gateway || a == nil {
		return c
	}
	if !stream && config.protocol.IsHTTP() {
		return nil // most paths have streams
	}
	c := p.await(ctx, a)
	a.now = 0
	if c == nil || c.mux != nil {
		return c
	}
	if now := p.shared.now(); c.expires != 0 && now >= c.expires || !c.trusted() || once && !p.quiet(c, now) {
		c.instance.active.Add(-1)
		_ = c.Close()
		return nil
	}
	return c
}

// opening is a path that is being opened.
type opening struct {
	began   instant
	share   bool // several requests may use it, if who answers agrees
	hopeful bool // as those do of late
}

// opening notes that a path is being opened, for a unless that is nil.
func (p *pool) opening(share bool, a *Attempts) opening {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a != nil && a.hopes {
		a.hopes = false
		p.queue.hopeful--
	}
	o := opening{p.shared.now(), share, share && !p.queue.alone}
	p.queue.opening++
	if o.hopeful {
		p.queue.hopeful++
	}
	return o
}

// opened notes that it is open, or that c is nil and it is not. Who waited for room on it opens its own
// when it has none.
func (p *pool) opened(o opening, c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue.opening--
	if c != nil {
		learn(&p.queue.opened, p.shared.now().since(o.began))
	}
	if c != nil && o.share {
		p.queue.alone = c.most <= 1
	}
	if !o.hopeful {
		return
	}
	if p.queue.hopeful--; p.queue.hopeful == 0 && (c == nil || p.queue.alone) {
		for _, waits := range p.queue.waiting {
			waits <- nil
		}
		p.queue.waiting = nil
	}
}
