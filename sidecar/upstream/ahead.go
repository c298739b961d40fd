package upstream

import (
	"context"
	"math/rand/v2"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/connect"
)

// renewal is when a pool's paths are renewed. The pool's lock guards it.
type renewal struct {
	running bool
	due     instant // of a whole round
	levelAt instant // before then it is not looked again who has too few paths
}

// wantLocked reports whether the caller is to call renew, and whether for a whole
// round. starved says that an instance had no path for the request whose turn it was.
func (p *pool) wantLocked(now instant, starved bool) (want, whole bool) {
	r := &p.renewal
	whole = now >= r.due
	if !p.host.key.gateway || p.closed || r.running || !whole && !(starved && now >= r.levelAt) {
		return false, false
	}
	r.running = true
	return true, whole
}

// renew opens paths through a gateway that is in use, in the background: to
// instances that were not met yet, new ones for old, which may have another weight
// or be offered no more, and more to who has too few. Requests find the paths there.
func (p *pool) renew(whole bool) {
	ran := p.shared.background.do(func(ctx context.Context) {
		if whole {
			p.meet(ctx)
			p.renewOldest(ctx)
		}
		p.level(ctx)
		p.renewed(whole)
	})
	if !ran { // all places are taken
		p.renewed(false)
	}
}

// renewed ends a round.
func (p *pool) renewed(whole bool) {
	now := p.shared.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.renewal.running = false
	p.renewal.levelAt = now.add(levelEvery)
	switch {
	case whole:
		p.renewal.due = now.add(renewEvery - renewEvery/5 + rand.N(renewEvery*2/5)) // so that callers do not march in step
	case now >= p.renewal.due:
		p.renewal.due = now.add(levelEvery)
	}
}

// meet opens paths to instances that were not met yet.
func (p *pool) meet(ctx context.Context) {
	for p.met() < maxWarm {
		if _, isNew, ok := p.openAhead(ctx, connect.Instance{}); !ok || !isNew {
			return // nobody answers, or all that are offered were met
		}
	}
}

// level opens paths to instances that have too few under load, for paths to those
// that have more.
func (p *pool) level(ctx context.Context) {
	for range maxLevelled {
		p.mu.Lock()
		poor, rich := p.instances.short()
		p.mu.Unlock()
		if poor == nil {
			return
		}
		if who, _, ok := p.openAhead(ctx, poor.who); !ok || who != poor.who {
			return
		}
		p.closeOldestOf(rich)
	}
}

// met returns how many instances there are connections to.
func (p *pool) met() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.instances.all)
}

// openAhead is openMore, and the new path takes the place of an older one to whom it leads to.
func (p *pool) openAhead(ctx context.Context, who connect.Instance) (_ connect.Instance, isNew, ok bool) {
	return p.openMore(ctx, who, true)
}

// openMore opens a path to who or, when that is zero or not offered, to somebody
// whom we have no path to, or else to anybody, and keeps it. isNew says that there
// was no path to them; ok that there is one now. Failures are left to requests to
// find, who have somebody to tell.
func (p *pool) openMore(ctx context.Context, who connect.Instance, replace bool) (_ connect.Instance, isNew, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	h := p.host
	p.mu.Lock()
	held := p.instances.held(who)
	p.mu.Unlock()
	as := h.service.usual()
	as.share = h.sharesPaths(h.service.dialConfig.Load(), nil)
	var c *Conn
	o := p.opening(as.share, nil)
	defer func() { p.opened(o, c) }()
	c, err := h.connect(ctx, as, h.service.dest, h.service.remotes.excluded(p.shared.now(), maxExcluded), held)
	if err != nil {
		p.shared.log.Debug("no path was opened ahead", "service", h.service.label(), "host", h.key.addr, "err", err)
		return who, false, false
	}
	h.service.metrics.opened[h.key.priority()]().Inc()
	h.beginStreams(c, nil, as) // else what the other end says first looks like noise
	now := p.shared.now()
	p.mu.Lock()
	before := len(p.instances.all)
	i := p.instances.of(c.remote())
	isNew = len(p.instances.all) > before || i.retired
	i.opened(c, now)
	p.mu.Unlock()
	if !isNew && replace {
		p.closeOldestOf(i)
	}
	if !p.put(c, now) {
		_ = c.Close()
		return c.remote(), isNew, false
	}
	return c.remote(), isNew, true
}

// renewOldest opens a path to the instance that has gone without for longest. When
// it was not offered twice in a row it is given up: others are nearer, or it is
// gone. Beside more instances than are kept warm it makes room for another.
func (p *pool) renewOldest(ctx context.Context) {
	p.mu.Lock()
	i := p.instances.oldest(p.shared.now().add(-renewAfter))
	p.mu.Unlock()
	if i == nil {
		return
	}
	who, isNew, ok := p.openAhead(ctx, i.who)
	if !ok || who == i.who {
		return
	}
	p.mu.Lock()
	i.missed++
	giveUp := !isNew && i.missed >= 2 || isNew && len(p.instances.all) > maxWarm && i.active.Load() <= 0
	i.retired = giveUp && !isNew
	p.mu.Unlock()
	if giveUp {
		p.closeTo(i.who)
	}
}

// closeOldestOf closes the idle connection to i that was opened first, if there is
// one.
func (p *pool) closeOldestOf(i *instance) {
	p.mu.Lock()
	var oldest *Conn
	for _, c := range i.idle {
		if oldest == nil || c.opened < oldest.opened {
			oldest = c
		}
	}
	if oldest != nil {
		i.idle = slices.DeleteFunc(i.idle, func(c *Conn) bool { return c == oldest })
		p.idle--
	}
	p.mu.Unlock()
	if oldest != nil {
		_ = oldest.Close()
	}
}
