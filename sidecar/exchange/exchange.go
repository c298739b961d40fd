package exchange

import (
	"bytes"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// exchange is one request with its answer. It is the session's goroutine's.
type exchange struct {
	*session
	attempts upstream.Attempts
	attempt             // the running one
	ruled               // where it goes, and what is changed
	bounds   bounds     // of what it may take
	body     http1.Body // of the request, behind first
	first    []byte     // of the body, what came with the head: part of session.in
	up       *upload    // the rest of the body; nil when there is none

	grpc       bool // the request is of gRPC
	grpcStatus int  // of the answer; noStatus: it said none

	begun    bool       // bytes of an answer went down to the client
	closing  bool       // the client's connection ends with this exchange
	rest     rest       // of the request's body, when the answer began
	local    LocalReply // what the mesh answers itself, once replied
	mark     string     // and what it says of the request to whoever may send it again: a parameter of Proxy-Status
	declined int        // the last status after which the request was sent again, of HTTP; 0: none

	// For the log.
	started time.Time // the request's head was there
	status  int       // what the client was told, 0: nothing
	reason  string    // why the mesh answered itself or the exchange broke off
	detail  string    // more of it
	moved   int64     // bytes of the answer's body that went down
	server  servedBy
	logged  bool
}

// servedBy is who served.
type servedBy struct{ addr, cluster, instance string }

// outcome is how an attempt ended.
type outcome uint8

const (
	completed outcome = iota // the answer is with the client
	upgraded                 // the connection was relayed as another protocol, and is over
	retried                  // nothing went down, and another attempt follows
	replied                  // there is no answer to pass on: the mesh answers itself
	aborted                  // the answer broke off, or the client left: both ends are reset
)

// serveRequest serves the request in h.req and reports whether another may follow.
func (h *session) serveRequest() bool {
	x := &h.x
	if x.session != nil {
		*x = exchange{} // another's
	}
	x.session, x.started, x.grpc, x.grpcStatus = h, time.Now(), isGRPC(h.req.Value("content-type")), noStatus
	x.bounds = h.s.Timeouts.of(x.started)
	if x.grpc {
		x.bounds.shorten(x.started, h.req.Value("grpc-timeout"))
	}
	h.rewrite.GRPCTimeout, h.rewrite.Fields, h.rewrite.Authority = nil, nil, ""
	x.closing = !h.req.KeepAlive()
	if h.req.Method == http1.Connect {
		h.end.refuse(LocalReply{405, connect.RequestError, "CONNECT is not for this listener: it is the destination already", ""})
		return false
	}
	x.body = h.req.Body()
	n, err := x.body.Scan(h.in[h.from:h.to])
	if err != nil {
		h.end.refuse(badRequest(err))
		return false
	}
	x.first = h.in[h.from : h.from+n]
	h.from += n
	if !h.req.HasID() {
		h.rewrite.RequestID = appendID(h.id[:0])
	}
	defer x.log()
	h.rewrite.Path = nil
	if a := h.s.Admission; a != nil {
		if refused := a.request(h); refused != nil {
			x.local = *refused
			return x.replyLocally()
		}
	}
	service, err := x.route()
	if err != nil {
		x.local = noService(err)
		return x.replyLocally()
	}
	if !x.bounds.end.IsZero() || x.rule != nil {
		h.writeLimit = streamDeadline{} // of another exchange
		defer func() { h.writeLimit = streamDeadline{} }()
	}
	x.plan(service)
	if !x.body.Done() {
		x.up = newUpload(x)
		defer x.up.release()
	} else {
		x.mirror()
	}
	return x.run()
}

// plan begins the attempts, and says what they may be: by which version, and how often.
func (x *exchange) plan(service *upstream.Service) {
	x.attempts.Begin(service, x.s.Retries, x.started)
	if service.Protocol() != mesh.HTTP || x.req.Upgrade() == nil {
		// An upgrade of HTTP/1.1 may be refused, or have a body in front of it: neither has
		// a form in RFC 8441. Where the program speaks HTTP/1.1 it gets a connection.
		x.attempts.Streams()
	}
	if _, shared := x.end.(*clientStream); shared {
		x.attempts.HTTP2()
	}
	if retry := x.ruled.retry(); retry != nil {
		x.attempts.Repeatable(retry.Attempts)
	} else if !x.req.Method.Idempotent() {
		x.attempts.Once()
	}
}

// service returns where requests go. The first one's fate may be known already.
func (h *session) service() (*upstream.Service, error) {
	if err := h.refusal; err != nil {
		h.refusal = nil
		return nil, err
	}
	return h.s.Service(h.ctx)
}

// run makes attempts until one has an answer or none is left, and reports whether
// the client's connection goes on.
func (x *exchange) run() bool {
	ctx := x.ctx
	if end := x.bounds.end; !end.IsZero() {
		d := &deadline{Context: ctx, end: end}
		defer d.release()
		ctx = d
	}
	for {
		if x.client.hasLeft() {
			x.end.abort() // before anybody is dialled for it
			return false
		}
		lease, err := x.attempts.Next(ctx, x.clientWaits)
		if err != nil {
			if x.bounds.over(time.Now()) {
				x.local = x.overdue()
			} else {
				x.local = x.noHost(err)
			}
			return x.replyLocally()
		}
		x.attempt = attempt{lease: lease, host: x.hostOf(lease), result: upstream.Broken}
		x.server = servedBy{lease.Addr(), string(lease.Cluster), lease.Instance}
		x.boundAttempt(x)
		o := x.try()
		x.unboundAttempt(x)
		switch o {
		case completed:
			return x.complete()
		case upgraded:
			return false
		case retried:
			x.endAttempt(false)
			if !x.backOff(ctx) {
				_ = x.abort()
				x.end.abort()
				return false
			}
		case replied:
			x.endAttempt(false)
			return x.replyLocally()
		case aborted:
			x.endAttempt(false)
			x.end.abort()
			return false
		}
	}
}

// hostOf returns the host's end of an attempt on lease.
func (x *exchange) hostOf(lease *upstream.Lease) hostEnd {
	if s := lease.Stream(); s != nil {
		return x.stream.take(s)
	}
	return hostConn{lease}
}

// begin notes that bytes of an answer go down to the client.
func (x *exchange) begin() {
	x.begun = true
	if x.up != nil {
		x.up.begun.Store(true)
	}
}

// clientWaits reports whether the client is still there, as far as one can see while
// it may be sending.
func (x *exchange) clientWaits() bool { return x.up != nil || !x.end.gone() }

// The four verbs end an attempt. What the host is told of it stands in
// attempt.result: that it broke, unless something else was set.

// complete ends the exchange whose answer is with the client, and reports whether
// the client's connection goes on.
func (x *exchange) complete() bool {
	whole := x.up.sentWhole(x.rest == unwanted)
	x.result = x.hostResult()
	reusable := whole && x.host.reusable(x)
	if reusable && !x.lease.ToSidecar() {
		if d := keepAliveTimeout(x.resp.Value("keep-alive")); d > 0 {
			x.lease.KeepFor(d)
		}
	}
	x.endAttempt(reusable)
	if x.up != nil {
		x.mirror()
	}
	return x.end.finish(whole)
}

// countRetry ends an attempt that another one follows, for a cause that is counted.
func (x *exchange) countRetry(c cause) outcome {
	x.s.Metrics.retry(c)
	x.followed = c
	if c == lost || c == declined {
		x.attempts.RestartWindow()
	}
	return retried
}

// reply ends the exchange with an answer of our own, if none has begun.
func (x *exchange) reply(r LocalReply) outcome {
	if x.begun && x.status != 0 {
		return aborted
	}
	x.local = r
	return replied
}

// abort ends the exchange because the client left, which says nothing about the host.
func (x *exchange) abort() outcome {
	if x.bounds.over(time.Now()) {
		x.reason, x.detail = responseTimeout, x.overdue().Detail
		return aborted
	}
	x.result = upstream.Abandoned
	x.reason = clientGone
	return aborted
}

// endAttempt tells the host how the attempt ended, and gives its connection back for
// others to use, or ends that.
func (x *exchange) endAttempt(reusable bool) {
	x.up.stop()
	x.ended = time.Now()
	x.lease.DoneAt(x.ended, x.result, x.latency())
	x.client.setHost(nil)
	switch {
	case reusable:
		x.lease.Return()
	case x.result == upstream.Answered:
		_ = x.lease.Close()
	default:
		_ = x.lease.Abort()
	}
	x.lease = nil
}

// latency is the time to the answer, 0 when there is none or when it would be the
// client's upload that is measured.
func (x *exchange) latency() time.Duration {
	if x.up != nil || x.status == 0 {
		return 0
	}
	return x.answeredAt.Sub(x.sentAt)
}

// hostResult is what the answer in resp says about who gave it.
func (x *exchange) hostResult() upstream.Outcome {
	if x.farSaid() == unseen {
		return upstream.Unserved
	}
	switch x.resp.Status {
	case 502, 503, 504:
		return upstream.GatewayError
	case 200:
		if x.grpc && parseStatus(x.resp.Value("grpc-status")) == grpcUnavailable { // without a word of an answer
			return upstream.GatewayError
		}
	}
	return upstream.Answered
}

// keepAliveTimeout returns for how long a server keeps an idle connection, by its
// Keep-Alive field; 0 when that does not say.
func keepAliveTimeout(field []byte) time.Duration {
	for len(field) > 0 {
		var item []byte
		item, field, _ = bytes.Cut(field, []byte(","))
		if name, value, _ := bytes.Cut(bytes.TrimSpace(item), []byte("=")); bytes.EqualFold(name, []byte("timeout")) {
			seconds, err := strconv.ParseUint(string(value), 10, 16)
			if err != nil {
				return 0
			}
			return max(time.Duration(seconds)*time.Second, 1)
		}
	}
	return 0
}

// mayHaveGone reports whether a program may have refused a body and closed without
// having read it, although it has said that its connection stays: what was sent of it
// may lie in buffers on the way. A sidecar reads what it has to.
func (x *exchange) mayHaveGone() bool {
	return x.up != nil && x.status >= 400 && !x.lease.ToSidecar()
}

// mayTrail reports whether a body may still follow an answer that must have none:
// programs exist that answer HEAD as GET, or send a body with 204. It would be
// taken for the answer to whoever is next. What a sidecar passes on is in step.
func (x *exchange) mayTrail() bool {
	if x.req.Method != http1.Head && !(x.status == 204 && x.resp.Announces()) {
		return false
	}
	return !x.lease.ToSidecar()
}

// replyLocally answers the request ourselves, and reports whether the client's
// connection goes on.
func (x *exchange) replyLocally() bool {
	r := x.local
	x.status, x.reason, x.detail = r.Status, r.Reason, r.logged()
	if x.grpc {
		x.status, x.grpcStatus = 200, r.grpcStatus()
	}
	x.up.stop()
	if x.up.clientGone() || x.client.hasLeft() {
		x.reason = clientGone
		x.end.abort()
		return false
	}
	whole := x.up.arrived(&x.body)
	x.closing = x.closing || !whole || x.req.IsHTTP10() || x.s.Conns.Draining()
	if r.Reason != "" {
		x.s.Metrics.localReply(r.Reason)
	}
	if x.up != nil {
		x.mirror()
	}
	x.end.reply(r, x.closing)
	return x.end.finish(whole)
}
