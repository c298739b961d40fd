package exchange

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// attempt is one try of an exchange.
type attempt struct {
	lease      *upstream.Lease  // nil between attempts
	host       hostEnd          // what is sent and read on the lease
	result     upstream.Outcome // what the host is told
	sentAt     time.Time        // the attempt began
	sendBy     time.Time        // when the host has to have taken what is sent at first
	answeredAt time.Time        // the answer's head was there
	ended      time.Time        // the attempt was over
	headEnd    int              // back[:headEnd] is the answer's head,
	filled     int              // back[headEnd:filled] what came behind it
	unheard    error            // what waiting for the answer has ended with, in send
	untilClose bool             // the answer ended with its connection
	extra      int              // bytes that upstream sent behind its answer
	still      bool             // the host stands still; what it has sent before is read
	followed   cause            // why another attempt follows; empty: none does
}

// try sends the request on the lease and passes the answer back.
func (x *exchange) try() outcome {
	if !x.client.setHost(x.host) || x.ctx.Err() != nil {
		return x.abort()
	}
	if err := x.send(); err != nil {
		return x.afterLoss(fmt.Errorf("send to %s: %w", x.lease.Addr(), err))
	}
	x.up.start(x.host)
	if o, over := x.receive(); over {
		return o
	}
	if x.resp.Status == 101 {
		return x.upgrade()
	}
	if o, over := x.afterFarReply(); over {
		return o
	}
	if o, over := x.afterAnswer(); over {
		return o
	}
	return x.passAnswer()
}

// send writes the head and what there is of the body.
func (x *exchange) send() error {
	x.sentAt = time.Now()
	x.sendBy = x.bounds.earlier(x.sentAt.Add(sendTimeout))
	if x.bounds.called > 0 {
		x.rewrite.GRPCTimeout = appendTimeout(x.timeout[:0], x.bounds.end.Sub(x.sentAt))
	}
	body := x.first
	if x.up != nil {
		body = x.up.rewind()
	}
	x.host.lookBy(x.sentAt, x.bounds.earlier(x.sentAt.Add(lookAfter)))
	return x.host.send(x, body)
}

// receive reads the final answer's head into x.resp and passes interim ones on; over
// says that the attempt has ended with o.
func (x *exchange) receive() (o outcome, over bool) {
	for interim := 0; ; interim++ {
		if o, over := x.readHead(); over || !x.resp.Interim() {
			return o, over
		}
		if interim == maxInterim {
			return x.reply(inner(502, protocolError, x.lease.Addr(), "gave more than %d interim answers", maxInterim)), true
		}
		if !x.passInterim() {
			return x.abort(), true
		}
		x.filled = copy(x.back, x.back[x.headEnd:x.filled])
	}
}

// readHead reads the head of an answer into x.resp.
func (x *exchange) readHead() (o outcome, over bool) {
	x.resp.Reset()
	x.resp.LeaveRoom = x.client.Peer != "" // then a sidecar reads it
	for {
		ok, err := x.host.readHead(x)
		if ok {
			return 0, false
		}
		if err == nil {
			continue
		}
		if bad := (*http1.Error)(nil); errors.As(err, &bad) {
			return x.reply(inner(502, protocolError, x.lease.Addr(), "answered with a malformed head: %v", bad)), true
		}
		if o, over := x.afterSilence(err); over {
			return o, true
		}
	}
}

// passInterim passes an interim answer on to a client that knows of such, and
// reports whether the client took it.
func (x *exchange) passInterim() bool {
	if x.req.IsHTTP10() {
		return true
	}
	x.out = x.end.appendHead(x.out[:0], &x.resp, http1.ResponseRewrite{}, false)
	x.extendWriteDeadline(time.Now())
	x.begin()
	if _, err := x.end.Write(x.out); err != nil {
		return false
	}
	if x.resp.Status == 100 && x.up != nil {
		x.up.continued = true
	}
	return true
}

// afterSilence decides what follows when a read brought nothing but err. When the
// attempt is not over, the next read may wait again.
func (x *exchange) afterSilence(err error) (o outcome, over bool) {
	switch addr := x.lease.Addr(); {
	case x.client.hasLeft():
		return x.abort(), true
	case connect.IsTimeout(err):
		return x.afterWaiting()
	case x.filled > 0 && x.clientEnded():
		return x.abort(), true
	case x.filled > 0:
		return x.reply(inner(502, responseIncomplete, addr, "broke off in the head of its answer: %s", connect.Public(err))), true
	case errors.Is(err, io.EOF):
		return x.afterLoss(fmt.Errorf("%s closed the connection without an answer: did the process there end?", addr)), true
	default:
		return x.afterLoss(fmt.Errorf("answer of %s: %w", addr, err)), true
	}
}

// afterWaiting looks, once a second, whether it is of use to wait on for an answer.
func (x *exchange) afterWaiting() (o outcome, over bool) {
	now := time.Now()
	if x.bounds.over(now) {
		return x.afterTimeout(), true
	}
	idle := now.Sub(x.started)
	if x.up != nil {
		idle = min(idle, x.up.idleFor())
	}
	if !x.up.running() {
		if x.end.gone() {
			return x.abort(), true
		}
		if x.lease.Superseded() && x.beginRetry(upstream.OutOfService) {
			x.attempts.Failed(fmt.Errorf("%s did not answer before it went out of service", x.lease.Addr()))
			return x.countRetry(lost), true
		}
	}
	if x.still {
		if x.beginRetry(upstream.OutOfService) {
			x.attempts.Failed(fmt.Errorf("%s stands still", x.lease.Addr()))
			return x.countRetry(lost), true
		}
		return x.reply(inner(504, responseTimeout, x.lease.Addr(), "gave no answer and stands still: is the process or its machine frozen? Nobody else was asked, since it may have done its work")), true
	}
	if x.standsStill() {
		x.still = true
		_ = x.host.SetReadDeadline(time.Now().Add(lookAfter / 100))
		return 0, false
	}
	if x.bounds.idle > 0 && idle > x.bounds.idle {
		return x.reply(inner(504, responseTimeout, x.lease.Addr(), "did not answer within %s", x.bounds.idle)), true
	}
	_ = x.host.SetReadDeadline(x.bounds.earlier(time.Now().Add(lookAfter)))
	return 0, false
}

// standsStill reports whether there is nothing to hope for from the lease's host.
func (x *exchange) standsStill() bool {
	h := x.lease.Host()
	return h.OutOfService() && h.Frozen(x.ctx) || x.lease.MachineGone()
}

// overdue is the reply to a request that has taken too long.
func (x *exchange) overdue() LocalReply {
	if x.bounds.byCall {
		return LocalReply{504, responseTimeout, fmt.Sprintf("the call was not over within its grpc-timeout, %s", x.bounds.called), ""}
	}
	if x.bounds.rule != "" {
		return LocalReply{Status: 504, Reason: responseTimeout, Detail: fmt.Sprintf("the exchange was not over within %s: see the timeouts of %s", x.bounds.ruled, x.bounds.rule)}
	}
	return LocalReply{Status: 504, Reason: responseTimeout, Detail: fmt.Sprintf("the exchange was not over within %s: see timeouts.request", x.s.Timeouts.Request)}
}
