package upstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// sharing are the connections to a host that many requests use at a time, each a stream of
// one (HTTP/2). There are few: a request takes a stream of the one with the fewest; the next
// is opened when all are full or have been the limit for a while. Connecting happens
// once for all who wait, and who waits goes on when there is room anywhere.
type sharing struct {
	host *Host

	mu      sync.Mutex
	conns   []*Conn // until they are gone; those with past take no new streams
	call    *sharedCall
	waiting int           // requests
	room    chan struct{} // a place: there may be room for one of them
	closed  bool
	timer   *time.Timer // runs sweep while there are connections
	// lookAgain is when it is looked again whether a connection is a limit.
	lookAgain instant
	// exclusive says that the host was last seen not to negotiate HTTP/2.
	exclusive bool
}

// sharedCall is a connection that is being opened.
type sharedCall struct {
	done chan struct{}
	// err is why there is none, after done. It is nil when who called went away: then
	// another one calls.
	err error
}

func (s *sharing) init(h *Host) {
	s.host, s.room = h, make(chan struct{}, 1)
	s.timer = time.AfterFunc(time.Hour, s.sweep)
	s.timer.Stop()
}

// errAllFull is why there is no stream: see maxShared.
var errAllFull = fmt.Errorf("all %d connections to it have as many streams as may be: is it stuck, or do requests take very long?", maxShared)

// lease is [Host.lease] of a host whose connections are shared, if it speaks HTTP/2.
func (s *sharing) lease(ctx context.Context, a *Attempts) (Lease, error) {
	h := s.host
	waited := false
	for {
		s.mu.Lock()
		if l, ok := s.takeLocked(a); ok {
			s.mu.Unlock()
			return l, nil
		}
		if s.exclusive {
			s.mu.Unlock()
			return h.leaseOrAdopt(ctx, a)
		}
		call, mine := s.call, false
		if call == nil && len(s.conns) < maxShared {
			call, mine = &sharedCall{done: make(chan struct{})}, true
			s.call = call
		}
		s.waiting++
		s.mu.Unlock()
		if mine {
			l, err := s.open(ctx, a, call)
			if err != nil || l.Conn != nil {
				return l, err
			}
			a.now = 0
			continue
		}
		if !waited {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, openTimeout+max(h.service.connect, 0))
			defer cancel()
			waited = true
		}
		if err := s.await(ctx, call); err != nil {
			return Lease{}, err
		}
		a.now = 0
	}
}

// await waits for the end of call, nil: there is none, or for room. The caller is counted
// among those who wait, and then is not any more.
func (s *sharing) await(ctx context.Context, call *sharedCall) (err error) {
	var done chan struct{}
	if call != nil {
		done = call.done
	}
	select {
	case <-done:
		err = call.err
	case <-s.room:
	case <-ctx.Done():
		err = s.host.connectError(StageConnect, nil, ctx.Err())
		if call == nil {
			err = s.host.connectError(StageHandshake, nil, errAllFull)
		}
	}
	s.mu.Lock()
	s.waiting--
	s.mu.Unlock()
	return err
}

// takeLocked takes a stream of the connection that has fewest.
func (s *sharing) takeLocked(a *Attempts) (Lease, bool) {
	now, config := a.moment(s.host.service.shared), s.host.service.dialConfig.Load()
	for {
		var best *Conn
		for _, c := range s.conns {
			if !c.past && (best == nil || c.leased < best.leased) {
				best = c
			}
		}
		if best == nil {
			return Lease{}, false
		}
		if !best.fits(config) || best.expires != 0 && now >= best.expires || !best.trusted() {
			s.passLocked(best)
			continue
		}
		stream, err := best.mux.Open()
		switch {
		case err == nil:
			best.leased++
			s.moreLocked(now, best)
			if best.leased > 1 || best.served {
				s.host.service.metrics.reused().Inc()
			}
			l := Lease{Conn: best, host: s.host, attempts: a, stream: stream, reused: best.served}
			best.served = true
			s.roomLocked() // for the next who waits
			return l, true
		case errors.Is(err, streams.ErrFull):
			return Lease{}, false // nobody has fewer
		}
		best.past = true
	}
}

// passLocked takes no new streams of c, and closes it when those that run have ended.
func (s *sharing) passLocked(c *Conn) {
	c.past = true
	c.mux.Drain()
}

// moreLocked opens another connection, in the background, when the one that has fewest
// streams has been their limit for a while.
func (s *sharing) moreLocked(now instant, best *Conn) {
	if best.leased < 2 || len(s.conns) >= maxBusy || s.call != nil || now < s.lookAgain {
		return
	}
	s.lookAgain = now.add(limitedLook)
	if !best.mux.Limited() {
		return
	}
	call := &sharedCall{done: make(chan struct{})}
	s.call = call
	s.waiting++
	as := &Attempts{service: s.host.service, raw: best.wire == wireRaw, http2: best.wire == wireHTTP2}
	if !s.host.service.shared.background.do(func(ctx context.Context) {
		if l, err := s.open(ctx, as, call); err == nil && l.Conn != nil {
			_ = l.Close() // it does not share connections any more
		}
	}) {
		s.call = nil
		s.waiting--
		close(call.done)
	}
}

// open opens a connection for all who wait on call. The lease is one without a stream when
// the host does not negotiate HTTP/2, and empty when it does: then the streams are there to
// take.
func (s *sharing) open(ctx context.Context, a *Attempts, call *sharedCall) (Lease, error) {
	h := s.host
	c, err := h.openWith(ctx, a, true)
	if err == nil && c.http2(h.service.dialConfig.Load(), a) {
		if err = s.begin(ctx, c); err == nil {
			c = nil
		}
	}
	s.mu.Lock()
	s.waiting--
	s.call = nil
	if err != nil && ctx.Err() == nil {
		call.err = err
	}
	if err == nil {
		s.exclusive = c != nil
	}
	close(call.done)
	s.mu.Unlock()
	switch {
	case err != nil:
		return Lease{}, err
	case c == nil:
		return Lease{}, nil
	}
	return Lease{Conn: c, host: h, attempts: a}, nil
}

// begin begins HTTP/2 on c and lets requests have streams of it.
func (s *sharing) begin(ctx context.Context, c *Conn) error {
	h := s.host
	c.shared = true
	h.service.shared.muxed.add(c)
	c.speakHTTP2(h.service.shared.cfg.Unread, func() { s.gone(c) })
	inTime, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := c.mux.Ready(inTime); err != nil {
		c.mux.Abort(err)
		err = fmt.Errorf("HTTP/2 did not begin: did it end, or does it not speak HTTP/2 (see the service's protocol): %w", err)
		if ctx.Err() == nil {
			h.ejectIfFailing(h.service.shared.now(), unconnected, err.Error())
		}
		return h.connectError(StageHandshake, c, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.since = h.service.shared.now()
	s.conns = append(s.conns, c)
	if s.closed {
		s.passLocked(c)
	}
	select {
	case <-c.mux.Done(): // before it was in conns
		s.removeLocked(c)
	default:
	}
	s.timer.Reset(sharedSweep)
	return nil
}

// gone forgets a connection that is gone. The goroutine that read it calls.
func (s *sharing) gone(c *Conn) {
	s.host.service.shared.secured.remove(c)
	s.host.service.shared.muxed.remove(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removeLocked(c)
}

func (s *sharing) removeLocked(c *Conn) {
	c.past = true
	s.conns = slices.DeleteFunc(s.conns, func(x *Conn) bool { return x == c })
	if len(s.conns) == 0 {
		s.timer.Stop()
	}
	s.roomLocked()
}

// release ends a lease of a stream.
func (s *sharing) release(c *Conn, stream *streams.Stream) {
	stream.Release()
	s.mu.Lock()
	if c.leased--; c.leased == 0 {
		c.since = s.host.service.shared.now()
	}
	last := c.leased == 0 && s.closed
	s.roomLocked()
	s.mu.Unlock()
	if last {
		_ = c.mux.Close() // nobody else waits for its goroutines
	}
}

// roomLocked wakes one who waits.
func (s *sharing) roomLocked() {
	if s.waiting > 0 {
		select {
		case s.room <- struct{}{}:
		default:
		}
	}
}

// sweep ends connections that are not needed or wanted any more, and refreshes those in use.
// It is called by the timer, on a goroutine that lasts as long as the call.
func (s *sharing) sweep() {
	now, config := s.host.service.shared.now(), s.host.service.dialConfig.Load()
	var busy []*Conn
	s.mu.Lock()
	for _, c := range s.conns {
		idle := c.leased == 0 && now.since(c.since) >= s.host.service.shared.idleTimeout
		switch {
		case !c.past && (idle || !c.fits(config) || c.expires != 0 && now >= c.expires || !c.trusted()):
			s.passLocked(c)
		case c.leased > 0:
			busy = append(busy, c)
		}
	}
	if len(s.conns) > 0 {
		s.timer.Reset(sharedSweep)
	}
	s.mu.Unlock()
	for _, c := range busy {
		c.Refresh()
	}
}

// count returns how many connections there are, and how many streams of them are in use.
func (s *sharing) count() (conns, streams int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		streams += c.leased
	}
	return len(s.conns), streams
}

// shed closes what nobody uses, at once.
func (s *sharing) shed() {
	s.mu.Lock()
	var idle []*Conn
	for _, c := range s.conns {
		if c.leased == 0 {
			c.past = true
			idle = append(idle, c)
		}
	}
	s.mu.Unlock()
	for _, c := range idle {
		_ = c.mux.Close()
	}
}

// drainIf takes no new streams of the connections that are bad.
func (s *sharing) drainIf(bad func(*Conn) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if !c.past && bad(c) {
			s.passLocked(c)
		}
	}
}

// close drains all connections, and those that are to come.
func (s *sharing) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.drainIf(func(*Conn) bool { return true })
}
