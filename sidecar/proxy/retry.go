package proxy

import (
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// Why an attempt was followed by another; labels of a metric.
const (
	unreached = "unreached"   // reached nobody
	lost      = "lost"        // died before the first byte of an answer
	farFailed = "far_refused" // the far sidecar had no answer from its program
)

// waits reports whether the client still does.
func (x *exchange) waits() bool { return x.up != nil || !gone(x.client) }

// broke decides what follows when the connection died before the first byte of an
// answer.
func (x *exchange) broke(err error) verdict {
	x.attempts.Failed(err)
	if x.up != nil {
		x.up.stop()
		if v, over := x.up.verdict(); over {
			return v
		}
	}
	unseen := !x.lease.Sent()
	if !x.mayRepeat(unseen) {
		return x.giveUp(noHost(err))
	}
	if unseen {
		x.s.metrics.retry(unreached)
	} else {
		x.s.metrics.retry(lost)
		// It may have taken long to die: what follows deserves its own time.
		x.attempts.RestartWindow()
	}
	return again
}

// mayRepeat reports whether the request may be sent again: nothing went down, its
// body is still here, and no application has seen it (unseen), or it is idempotent
// and the budget grants it. The upload is over on return of true.
func (x *exchange) mayRepeat(unseen bool) bool {
	if x.begun || !x.attempts.MayRepeat(unseen, x.req.Method.Idempotent()) {
		return false
	}
	if x.up != nil {
		x.up.stop()
		if !x.up.replayable() {
			return false
		}
	}
	return unseen || x.attempts.SpendBudget()
}

// giveUp ends the exchange with an answer of our own if none has begun.
func (x *exchange) giveUp(f localReply) verdict {
	x.drop(upstream.Broken)
	if x.begun && x.status != 0 {
		return broken
	}
	x.reply = f
	return again
}

// failed reports whether an attempt has ended the exchange with a reply of ours.
func (x *exchange) failed() bool { return x.reply.status != 0 }

// abandon ends the exchange because the client went away.
func (x *exchange) abandon() verdict {
	x.drop(upstream.Abandoned)
	x.reason = "client_gone"
	return broken
}

// finish tells the host how the attempt ended, once.
func (x *exchange) finish(o upstream.Outcome) {
	if x.lease == nil {
		return
	}
	var latency time.Duration
	if x.up == nil && x.status != 0 { // else it would be the client's upload
		latency = x.answered.Sub(x.sentAt)
	}
	x.lease.Done(o, latency)
}

// drop ends the attempt and its connection.
func (x *exchange) drop(o upstream.Outcome) {
	if x.up != nil {
		x.up.stop()
	}
	x.finish(o)
	if x.lease != nil {
		if o == upstream.Answered {
			_ = x.lease.Close()
		} else {
			_ = x.lease.Abort()
		}
		x.client.far.Store(nil)
		x.lease = nil
	}
}

// fail answers the request ourselves.
func (x *exchange) fail(f localReply) bool {
	x.status, x.reason, x.detail = f.status, f.reason, f.logged()
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
