package proxy

import (
	"math/rand/v2"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// retry is what an exchange remembers of its attempts.
type retry struct {
	picked int        // hosts asked in earlier rounds
	sent   int        // attempts that began to send
	rounds int        // times that all hosts were asked
	began  time.Time  // of the current window
	last   error      // why the last attempt failed
	reply  localReply // what to answer; status 0: try again
}

// Why an attempt was followed by another; labels of a metric.
const (
	unreached = "unreached"   // reached nobody
	lost      = "lost"        // died before the first byte of an answer
	farFailed = "far_refused" // the far sidecar had no answer from its program
)

// failed notes why an attempt failed.
func (r *retry) failed(err error) { r.last = err }

// next picks the host of the next attempt, if there is to be one. When everybody
// was asked it waits a moment and begins another round: what is told of hosts
// (tunnels, endpoints) lags behind what they are.
func (x *exchange) next() (*upstream.Host, bool) {
	r := &x.retry
	if r.began.IsZero() {
		r.began = x.started
	}
	for r.picked+x.try.Attempts() < maxAttempts {
		if host, ok := x.service.Pick(&x.try); ok {
			return host, true
		}
		pause := minPause << r.rounds
		if !x.anotherRound(pause) {
			return nil, false
		}
		r.rounds++
		r.picked += x.try.Attempts()
		x.try.NextRound()
		if !x.pause(pause/2 + rand.N(pause)) {
			return nil, false
		}
	}
	return nil, false
}

// anotherRound reports whether those who were asked are to be asked again.
func (x *exchange) anotherRound(pause time.Duration) bool {
	r := &x.retry
	asked := r.picked + x.try.Attempts()
	switch {
	case r.rounds == maxRounds:
		return false
	case asked > 0 && asked < minAttempts && timedOut(r.last):
		// Nobody answered in time, or we have slept ourselves: a machine that was
		// paused must not answer for everybody else.
		return true
	case !x.s.rounds:
		return false
	}
	return asked > 0 && asked < minAttempts || time.Since(r.began)+pause <= retryWindow
}

// pause waits and reports whether to go on.
func (x *exchange) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return x.up != nil || !gone(x.client.tracked.conn)
	case <-x.s.p.ctx.Done():
		return false
	}
}

// broke decides what follows when the connection died before the first byte of an
// answer.
func (x *exchange) broke(err error) verdict {
	x.retry.failed(err)
	if x.up != nil {
		x.up.stop()
		if v, over := x.up.verdict(); over {
			return v
		}
	}
	unseen := !x.conn.Sent()
	if !x.mayRepeat(unseen) {
		return x.giveUp(noHost(err))
	}
	if unseen {
		x.s.metrics.retry(unreached)
	} else {
		x.s.metrics.retry(lost)
		// It may have taken long to die: what follows deserves its own time.
		x.retry.began = time.Now()
	}
	return again
}

// mayRepeat reports whether the request may be sent again: nothing went down, its
// body is still here, and no application has seen it (unseen), or it is idempotent
// and the budget grants it. The upload is over on return of true.
func (x *exchange) mayRepeat(unseen bool) bool {
	if x.begun || x.retry.sent >= maxSent || x.retry.picked+x.try.Attempts() >= maxAttempts {
		return false
	}
	if !unseen && !x.req.Method.Idempotent() {
		return false
	}
	if x.up != nil {
		x.up.stop()
		if !x.up.replayable() {
			return false
		}
	}
	return unseen || x.service.Retry()
}

// giveUp ends the exchange with an answer of our own if none has begun.
func (x *exchange) giveUp(f localReply) verdict {
	x.drop(upstream.Broken)
	if x.begun && x.status != 0 {
		return broken
	}
	x.retry.reply = f
	return again
}

// failed reports whether an attempt has ended the exchange with a reply of ours.
func (x *exchange) failed() bool { return x.retry.reply.status != 0 }

// abandon ends the exchange because the client went away.
func (x *exchange) abandon() verdict {
	x.drop(upstream.Abandoned)
	x.reason = "client_gone"
	return broken
}

// finish tells the host how the attempt ended, once.
func (x *exchange) finish(o upstream.Outcome) {
	if x.host == nil || x.done {
		return
	}
	x.done = true
	var latency time.Duration
	if x.up == nil && x.status != 0 { // else it would be the client's upload
		latency = x.answered.Sub(x.sentAt)
	}
	x.host.Done(&x.try, x.conn, o, latency)
}

// drop ends the attempt and its connection.
func (x *exchange) drop(o upstream.Outcome) {
	if x.up != nil {
		x.up.stop()
	}
	x.finish(o)
	if x.conn != nil {
		if o == upstream.Answered {
			_ = x.conn.Close()
		} else {
			_ = x.conn.Abort()
		}
		x.client.far.Store(nil)
		x.conn = nil
	}
	x.host = nil
}

// fail answers the request ourselves.
func (x *exchange) fail(f localReply) bool {
	x.status, x.reason, x.detail = f.status, f.reason, f.detail
	if x.up != nil {
		x.up.stop()
		if x.up.clientGone() {
			x.reason = "client_gone"
			x.client.abort()
			return false
		}
		x.up.giveBack()
	}
	whole := x.body.Done() && x.up == nil || x.up != nil && x.up.body.Done()
	x.closing = x.closing || !whole || x.req.IsHTTP10() || x.s.p.conns.isDraining()
	x.s.metrics.made(f.reason)
	x.answer(f, x.closing, x.req.Method == http1.Head)
	if !whole {
		x.log()
		x.linger()
	}
	return !x.closing
}
