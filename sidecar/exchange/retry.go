package exchange

import (
	"bytes"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// clientGone is the access log's reason when the client left first.
const clientGone = "client_gone"

// cause is why an attempt was followed by another; the label of a metric.
type cause string

const (
	unreached cause = "unreached"   // reached nobody
	lost      cause = "lost"        // died or stood still before the first byte of an answer, or a rule gave it no more time
	farFailed cause = "far_refused" // the far sidecar had no answer from its program
	declined  cause = "declined"    // was answered such that its route has it sent again
)

// beginRetry begins another attempt after a loss, if there may be one, and takes it from the
// budget: nothing went down, its body is still here, and the attempts allow it. The upload is
// over on return of true.
func (x *exchange) beginRetry(l upstream.Loss) bool {
	return !x.begun && x.attempts.MayRetry(l, x.repeatable()) && x.up.stopReplayable() && x.attempts.Retry(l)
}

// clientEnded reports whether the client is why the host's end broke: the upload, which may
// be the first to see that, ends that, too.
func (x *exchange) clientEnded() bool {
	x.up.stop()
	return x.up.clientGone() || x.client.hasLeft()
}

// afterLoss decides what follows when the connection died, for the reason err, before
// the first byte of an answer.
func (x *exchange) afterLoss(err error) outcome {
	x.attempts.Failed(err)
	x.up.stop()
	if x.bounds.over(time.Now()) {
		return x.afterTimeout()
	}
	if x.clientEnded() {
		return x.abort()
	}
	if errors.Is(err, errNoUpgrade) {
		return x.reply(inner(501, upgradeFailed, x.lease.Addr(), "%v", err))
	}
	if errors.Is(err, streams.ErrHeadNotTaken) {
		return x.reply(inner(431, connect.RequestError, x.lease.Addr(), "%v", err))
	}
	if bad := x.up.malformed(); bad != nil {
		x.result = upstream.Abandoned // the host has no part in it
		return x.reply(badRequest(bad))
	}
	loss, c := upstream.Lost, lost
	switch {
	case !x.lease.Sent() || unprocessed(err):
		loss, c = upstream.Unseen, unreached
	case x.resetByProgram(err):
		loss = upstream.Reset
	}
	if x.beginRetry(loss) {
		return x.countRetry(c)
	}
	if loss == upstream.Unseen {
		return x.reply(x.noHost(err))
	}
	return x.noAnswer(err, loss)
}

// unprocessed reports whether the host has said that no application has seen the request.
func unprocessed(err error) bool {
	var reset *streams.ResetError
	return errors.As(err, &reset) && reset.Unprocessed
}

// resetByProgram reports whether the program beside, or one without a sidecar, has reset
// the connection of an attempt that failed with err.
func (x *exchange) resetByProgram(err error) bool {
	return !x.lease.ToSidecar() && x.lease.Stream() == nil && errors.Is(err, syscall.ECONNRESET)
}

// noHost is the reply when nobody is left to ask; last is why the last one failed. When
// one that was asked before may have seen the request, nobody must think that none has.
func (x *exchange) noHost(last error) LocalReply {
	if x.declined != 0 {
		return x.stillDeclined(last)
	}
	if x.attempts.Lost() > 0 {
		if x.harmless() {
			x.mark = resetParameter
		}
		return terminated(last)
	}
	return noHost(last)
}

// noAnswer ends the exchange whose request may have been seen, after a loss.
func (x *exchange) noAnswer(err error, l upstream.Loss) outcome {
	switch {
	case l == upstream.Reset && x.harmless():
		x.mark = resetParameter
	case x.attempts.Lost() > 0:
		x.mark = repeatedParameter
	}
	return x.reply(terminated(err))
}

// harmless reports whether nobody can have died of the request in the attempts that were
// repeated. A long one is never taken for that: a program that dies within its body leaves the
// rest unread, for which its kernel resets the connection, too.
func (x *exchange) harmless() bool { return x.up == nil && x.attempts.Crashed() == 0 }

// afterFarReply decides what follows when a far sidecar has answered that it got
// nothing from its program. When the attempt is not over, the answer is passed on:
// what a program says is its own business, also when it speaks of proxies.
func (x *exchange) afterFarReply() (o outcome, over bool) {
	said := x.farSaid()
	if said == anAnswer {
		return x.afterFarRefusal()
	}
	retry := said == unseen && x.beginRetry(upstream.Unseen) || said == seenOnce && x.beginRetry(upstream.Lost) || said == wasReset && x.beginRetry(upstream.Reset)
	if !retry && !x.up.cut() {
		return 0, false
	}
	err := &farReply{max(x.resp.Status, 502), string(x.resp.ProxyStatus())}
	x.attempts.Failed(err)
	x.result = x.hostResult()
	if retry {
		return x.countRetry(farFailed), true
	}
	return x.reply(x.noHost(err)), true
}

// ofFarSidecar reports whether resp has come from a sidecar beside the program.
func (x *exchange) ofFarSidecar() bool { return x.s.Outbound && x.lease.ToSidecar() }

// farSaid is what a far sidecar has said by resp; anAnswer when there is none.
func (x *exchange) farSaid() farSaid {
	if !x.ofFarSidecar() {
		return anAnswer
	}
	return saidByFarSidecar(&x.resp)
}

// afterFarRefusal makes a status of gRPC of what a far sidecar has answered by itself to a
// call, and as HTTP.
func (x *exchange) afterFarRefusal() (o outcome, over bool) {
	if !x.grpc || !x.ofFarSidecar() || x.resp.Status < 400 || isGRPC(x.resp.Value("content-type")) {
		return 0, false
	}
	said, ok := bytes.CutPrefix(x.resp.ProxyStatus(), []byte(InboundName+"; error="))
	if !ok {
		return 0, false
	}
	reason, _, _ := bytes.Cut(said, []byte(";"))
	r := LocalReply{x.resp.Status, string(reason), fmt.Sprintf("the far sidecar answered %d: %s", x.resp.Status, x.resp.ProxyStatus()), ""}
	if !token(r.Reason) {
		r.Reason = connect.DestinationUnavailable
	}
	x.result = x.hostResult()
	return x.reply(r), true
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
