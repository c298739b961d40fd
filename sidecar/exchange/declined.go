package exchange

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// retry returns when the request is sent again by its rule; nil: none says so. Rules are known to the
// sidecar of the caller only, so that no other one sends it again after an answer.
func (r *ruled) retry() *mesh.Retry {
	if r.rule == nil {
		return nil
	}
	return r.rule.Action.Retry
}

// repeatable reports whether the request may be executed more than once: by its method (RFC 9110
// §9.2.2), or because its rule says so.
func (x *exchange) repeatable() bool {
	return x.req.Method.Idempotent() || x.ruled.retry() != nil
}

// afterAnswer decides what follows when the head of an answer is here. The attempt is over when the
// rule has the request sent again after such an answer, and that can be done: nothing went to the client, and
// no message of a call is in the answer. What a far sidecar has answered by itself is not looked at
// (see afterFarReply).
func (x *exchange) afterAnswer() (o outcome, over bool) {
	retry := x.ruled.retry()
	if retry == nil || x.begun || x.saidByMesh() {
		return 0, false
	}
	status := noStatus
	if x.grpc {
		status = x.earlyStatus()
	}
	if !x.rule.Retries(x.resp.Status, status) || x.whole.over(time.Now().Add(retry.Backoff)) {
		return 0, false
	}
	if x.up.outgrown() || !x.attempts.MayRetry(upstream.Declined, true) || !x.attempts.Retry(upstream.Declined) {
		return 0, false
	}
	x.declined = x.resp.Status
	if status != noStatus {
		x.declined = 503 // in words of HTTP
	}
	err := fmt.Errorf("%s answered %d", x.lease.Addr(), x.declined)
	x.attempts.Failed(err)
	x.result = x.hostResult()
	switch {
	case x.up.stopReplayable():
		return x.countRetry(declined), true
	case x.clientEnded():
		return x.abort(), true
	}
	// The upload has outgrown its buffer just now.
	return x.reply(LocalReply{x.declined, connect.DestinationUnavailable,
		fmt.Sprintf("an instance answered %d, and too much of the request had been sent by then to send it again, as %s has it", x.declined, x.rule.Name), err.Error()}), true
}

// saidByMesh reports whether a far sidecar has made the answer in resp.
func (x *exchange) saidByMesh() bool {
	return x.ofFarSidecar() && bytes.HasPrefix(x.resp.ProxyStatus(), []byte(InboundName+"; error="))
}

// earlyStatus returns the status of a call that is answered by nothing else: in the head, or in
// trailers that have come with it. noStatus: there are messages, or it is not here yet.
func (x *exchange) earlyStatus() int {
	if value := x.resp.Value("grpc-status"); value != nil {
		return parseStatus(value)
	}
	body, here := x.resp.Body(x.req.Method == http1.Head), x.back[x.headEnd:x.filled]
	if !bytes.HasPrefix(here, []byte("0\r\n")) {
		return noStatus
	}
	n, err := body.Scan(here)
	if err != nil || !body.Done() {
		return noStatus
	}
	return trailerStatus(here[:n])
}

// stillDeclined is the reply when a request is sent again after an answer, and nobody is reached any more:
// last is why.
func (x *exchange) stillDeclined(last error) LocalReply {
	return LocalReply{x.declined, connect.DestinationUnavailable,
		fmt.Sprintf("an instance answered %d, and when the request was sent again, as %s has it, nobody could be asked", x.declined, x.rule.Name), last.Error()}
}

// afterTimeout decides what follows when time is over before there is an answer: what a rule gives one
// attempt, or all of them.
func (x *exchange) afterTimeout() outcome {
	if x.ruled.retry() != nil && !x.whole.over(time.Now()) && x.beginRetry(upstream.OutOfService) {
		x.attempts.Failed(fmt.Errorf("%s did not answer within %s, see the timeouts of %s", x.lease.Addr(), x.bounds.ruled, x.rule.Name))
		return x.countRetry(lost)
	}
	return x.reply(x.overdue())
}

// backOff waits before another attempt as the rule says, and reports whether the client still waits as well.
// What reached no program is not waited for.
func (x *exchange) backOff(ctx context.Context) bool {
	retry := x.ruled.retry()
	if retry == nil || retry.Backoff == 0 || x.followed != lost && x.followed != declined {
		return true
	}
	for left := retry.Backoff + rand.N(retry.Backoff/4+1); left > 0; left -= lookAfter {
		if !state.Pause(ctx, min(left, lookAfter)) {
			break // the next attempt says what that means
		}
		if x.client.hasLeft() || !x.clientWaits() {
			return false
		}
	}
	x.attempts.RestartWindow()
	return true
}
