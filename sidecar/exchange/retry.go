package exchange

import "fmt"

// clientGone is the access log's reason when the client left first.
const clientGone = "client_gone"

// cause is why an attempt was followed by another; the label of a metric.
type cause string

const (
	unreached cause = "unreached"   // reached nobody
	lost      cause = "lost"        // died before the first byte of an answer
	farFailed cause = "far_refused" // the far sidecar had no answer from its program
)

// mayRepeat reports whether the request may be sent again: nothing went down, its
// body is still here, and no application has seen it (unseen), or it is idempotent
// and the budget grants it. The upload is over on return of true.
func (x *exchange) mayRepeat(unseen bool) bool {
	return !x.begun && x.attempts.MayRepeat(unseen, x.req.Method.Idempotent()) &&
		x.up.stopReplayable() && (unseen || x.attempts.SpendBudget())
}

// afterLoss decides what follows when the connection died, for the reason err, before
// the first byte of an answer.
func (x *exchange) afterLoss(err error) outcome {
	x.attempts.Failed(err)
	x.up.stop()
	if x.up.clientGone() {
		return x.abort()
	}
	if bad := x.up.malformed(); bad != nil {
		return x.reply(badRequest(bad))
	}
	unseen := !x.lease.Sent()
	switch {
	case !x.mayRepeat(unseen):
		return x.reply(noHost(err))
	case unseen:
		return x.repeat(unreached)
	}
	return x.repeat(lost)
}

// afterFarReply decides what follows when a far sidecar has answered that it got
// nothing from its program. When the attempt is not over, the answer is passed on:
// what a program says is its own business, also when it speaks of proxies.
func (x *exchange) afterFarReply() (o outcome, over bool) {
	if !x.s.Outbound {
		return 0, false
	}
	made, unseen := madeByFarSidecar(&x.resp)
	if !made {
		return 0, false
	}
	repeat := x.mayRepeat(unseen)
	if !repeat && !x.up.cut() {
		return 0, false
	}
	err := &farReply{x.resp.Status, string(x.resp.ProxyStatus())}
	x.attempts.Failed(err)
	x.result = hostResult(x.resp.Status)
	if repeat {
		return x.repeat(farFailed), true
	}
	return x.reply(noHost(err)), true
}

// farReply is an answer that a far sidecar made, taken as a failed attempt.
type farReply struct {
	status      int
	proxyStatus string
}

// Error says what the far sidecar said.
func (e *farReply) Error() string {
	return fmt.Sprintf("the far sidecar answered %d: %s", e.status, e.proxyStatus)
}
