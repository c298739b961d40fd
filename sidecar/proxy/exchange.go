package proxy

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// exchange is one request with its answer. It is the session's goroutine's.
type exchange struct {
	*session
	attempts upstream.Attempts
	lease    *upstream.Lease // of the running attempt, nil without
	reply    localReply      // what to answer; status 0: try again

	body  http1.Body // of the request, behind first
	first []byte     // of the body, what came with the head: part of session.in
	up    *upload    // the rest of the body; nil when there is none

	begun   bool // bytes of an answer went down to the client
	closing bool // the client's connection ends with this exchange

	started    time.Time // the request's head was there
	sentAt     time.Time // the running attempt began
	answered   time.Time // the answer's head was there
	status     int       // what the client was told, 0: nothing
	reason     string    // why the mesh answered itself or the exchange broke off
	detail     string    // more of it
	moved      int64     // bytes of the answer's body that went down
	unwanted   bool      // nobody takes the rest of the request's body
	untilClose bool      // the answer ended with its connection
	extra      int       // bytes that upstream sent behind its answer
	logged     bool
	server     upstreamName
}

// upstreamName is who served, for the log.
type upstreamName struct{ addr, cluster, instance string }

// verdict is what becomes of an exchange after an attempt.
type verdict uint8

const (
	finished verdict = iota // the answer is with the client
	again                   // nothing went down, and it may be tried elsewhere
	broken                  // the answer broke off, or the client did: both ends are reset
	switched                // the connection is not HTTP any more, and over
)

// exchange serves the request in h.req and reports whether another may follow.
func (h *session) exchange() bool {
	x := &h.x
	*x = exchange{session: h, started: time.Now()}
	x.closing = !h.req.KeepAlive()
	if h.req.Method == http1.Connect {
		h.refuse(localReply{405, "http_request_error", "CONNECT is not for this listener: it is the destination already", ""})
		return false
	}
	x.body = h.req.Body()
	n, err := x.body.Scan(h.in[h.from:h.to])
	if err != nil {
		h.refuse(badRequest(err))
		return false
	}
	x.first = h.in[h.from : h.from+n]
	h.from += n
	if !h.req.HasID() {
		h.rewrite.RequestID = appendID(h.id[:0])
	}
	defer x.log()
	service, err := h.route()
	if err != nil {
		return x.fail(noRoute(err))
	}
	x.attempts.Begin(service, h.s.retries, x.started)
	if !x.body.Done() {
		x.up = newUpload(x)
		defer x.up.release()
	}
	return x.run()
}

// route returns where requests go. The first one's fate may be known already.
func (h *session) route() (*upstream.Service, error) {
	if err := h.noRoute; err != nil {
		h.noRoute = nil
		return nil, err
	}
	return h.s.service(h.s.p.ctx)
}

// run makes attempts until one has an answer or none is left.
func (x *exchange) run() bool {
	for {
		lease, err := x.attempts.Next(x.s.p.ctx, x.waits)
		if err != nil {
			return x.fail(noHost(err))
		}
		x.lease = lease
		x.server = upstreamName{lease.Addr(), string(lease.Cluster), lease.Instance}
		switch x.attempt() {
		case finished:
			return x.settle()
		case again:
			x.drop(upstream.Broken)
		case broken:
			x.drop(upstream.Broken)
			x.client.abort()
			return false
		case switched:
			return false
		}
		if x.failed() {
			return x.fail(x.reply)
		}
	}
}

// attempt sends the request on x.conn and passes the answer back.
func (x *exchange) attempt() verdict {
	x.client.far.Store(x.lease.Conn)
	if x.s.p.ctx.Err() != nil {
		return x.abandon()
	}
	x.sentAt = time.Now()
	_ = x.lease.SetWriteDeadline(x.sentAt.Add(sendTimeout))
	if err := x.send(); err != nil {
		return x.broke(fmt.Errorf("send to %s: %w", x.lease.Addr(), err))
	}
	_ = x.lease.SetReadDeadline(x.sentAt.Add(lookAfter))
	if x.up != nil {
		x.up.start(x.lease.Conn)
	}
	n, filled, v := x.receive()
	if v != finished {
		return v
	}
	if x.resp.Status == 101 {
		return x.switchProtocols(n, filled)
	}
	// What a program says is its own business, also when it speaks of proxies.
	if made, unseen := meshMade(&x.resp); made && x.s.direction == outbound {
		var far *farFault
		repeat := x.mayRepeat(unseen)
		if repeat || x.up.cut() {
			far = &farFault{x.resp.Status, string(x.resp.ProxyStatus())}
			x.attempts.Failed(far)
			x.finish(upstream.GatewayError)
		}
		switch {
		case repeat:
			x.s.metrics.retry(farFailed)
			return again
		case x.up.cut():
			return x.giveUp(noHost(far))
		}
	}
	return x.passBack(n, filled)
}

// send writes the head and what there is of the body, at once if it is small.
func (x *exchange) send() error {
	x.out = http1.AppendRequest(x.out[:0], &x.req, &x.rewrite)
	body := x.first
	if x.up != nil {
		body = x.up.rewind()
	}
	if len(x.out)+len(body) <= cap(x.out) {
		x.out = append(x.out, body...)
		body = nil
	}
	if _, err := x.lease.Write(x.out); err != nil || len(body) == 0 {
		return err
	}
	_, err := x.lease.Write(body)
	return err
}

// receive reads the final answer's head into x.resp and passes interim ones on. The
// head is back[:n], what came behind it back[n:filled].
func (x *exchange) receive() (n, filled int, v verdict) {
	interim := 0
	for {
		x.resp.Reset()
		x.resp.LeaveRoom = x.client.peer != "" // then a sidecar reads it
		for {
			var err error
			if filled > 0 {
				if n, err = x.resp.Parse(x.back[:filled]); err != nil {
					return 0, 0, x.giveUp(inner(502, "http_protocol_error", x.lease.Addr(), "answered with a malformed head: %v", err))
				}
				if n > 0 {
					break
				}
				if filled == len(x.back) {
					x.back = append(x.back, make([]byte, len(x.back))...) // http1.MaxHead bounds it
				}
			}
			k, err := x.lease.Read(x.back[filled:])
			filled += k
			if err != nil && k == 0 {
				if timedOut(err) {
					if v := x.stillWaiting(); v != finished {
						return 0, 0, v
					}
					continue
				}
				if filled > 0 {
					return 0, 0, x.giveUp(inner(502, "http_response_incomplete", x.lease.Addr(), "broke off in the head of its answer: %s", connect.Public(err)))
				}
				if errors.Is(err, io.EOF) {
					return 0, 0, x.broke(fmt.Errorf("%s closed the connection without an answer: did the process there end?", x.lease.Addr()))
				}
				return 0, 0, x.broke(fmt.Errorf("answer of %s: %w", x.lease.Addr(), err))
			}
		}
		if !x.resp.Interim() {
			return n, filled, finished
		}
		if interim++; interim > maxInterim {
			return 0, 0, x.giveUp(inner(502, "http_protocol_error", x.lease.Addr(), "gave more than %d interim answers", maxInterim))
		}
		if !x.req.IsHTTP10() {
			x.out = http1.AppendResponse(x.out[:0], &x.resp, &http1.ResponseRewrite{})
			x.renew(time.Now())
			x.begun = true
			if _, err := x.client.Write(x.out); err != nil {
				return 0, 0, x.abandon()
			}
			if x.resp.Status == 100 && x.up != nil {
				x.up.continued = true
			}
		}
		filled = copy(x.back, x.back[n:filled])
	}
}

// stillWaiting decides whether to go on waiting for an answer's head.
func (x *exchange) stillWaiting() verdict {
	idle := time.Since(x.started)
	if x.up != nil {
		idle = min(idle, x.up.still())
	}
	switch uploading := x.up != nil && x.up.running(); {
	case uploading:
	case gone(x.client):
		return x.abandon()
	case x.lease.Superseded() && x.mayRepeat(false):
		x.attempts.Failed(fmt.Errorf("%s did not answer before it went out of service", x.lease.Addr()))
		x.s.metrics.retry(lost)
		x.attempts.RestartWindow() // it may have taken long to be told
		return again
	}
	if idle > streamTimeout {
		return x.giveUp(inner(504, "http_response_timeout", x.lease.Addr(), "did not answer within %s", streamTimeout))
	}
	_ = x.lease.SetReadDeadline(time.Now().Add(lookAfter))
	return finished
}

// passBack writes the answer whose head is back[:n] to the client.
func (x *exchange) passBack(n, filled int) verdict {
	now := time.Now()
	x.answered, x.status = now, x.resp.Status
	toHead := x.req.Method == http1.Head
	body := x.resp.Body(toHead)
	x.untilClose = body.UntilClose()
	strip := body.Chunked() && x.req.IsHTTP10()
	x.unwanted = x.up.unwanted(x.resp.KeepAlive())
	x.closing = x.closing || x.untilClose || strip || x.unwanted || x.s.p.conns.isDraining()
	x.out = http1.AppendResponse(x.out[:0], &x.resp, &http1.ResponseRewrite{HTTP10: x.req.IsHTTP10(), Close: x.closing, Via: x.s.status, Bodiless: toHead, Date: x.s.p.date.at(now)})
	d := &download{x: x, body: body, strip: strip, buf: x.back, from: n, to: filled}
	return d.run(now)
}

// settle ends an exchange whose answer is complete, and reports whether the
// client's connection goes on.
func (x *exchange) settle() bool {
	whole := x.up == nil || x.up.finish(x.unwanted)
	if whole && x.resp.KeepAlive() && !x.untilClose && x.extra == 0 && !x.mayTrail() {
		x.finish(outcomeOf(x.status))
		x.client.far.Store(nil)
		x.lease.Return()
		x.lease = nil
	} else {
		x.drop(outcomeOf(x.status))
	}
	if x.up != nil {
		x.up.giveBack()
	}
	if x.closing || !whole {
		if !whole || x.from < x.to {
			x.session.linger()
		}
		return false
	}
	return true
}

// mayTrail reports whether a body may still follow an answer that must have none:
// programs exist that answer HEAD as GET, or send a body with 204. It would be
// taken for the answer to whoever is next. What a sidecar passes on is in step.
func (x *exchange) mayTrail() bool {
	if x.req.Method != http1.Head && !(x.status == 204 && x.resp.Announces()) {
		return false
	}
	id, err := identity.ParseID(x.lease.Peer)
	return err != nil || id.IsGateway()
}

func outcomeOf(status int) upstream.Outcome {
	switch status {
	case 502, 503, 504:
		return upstream.GatewayError
	}
	return upstream.Answered
}

// switchProtocols makes the connection a relay, when the client asked for it.
func (x *exchange) switchProtocols(n, filled int) verdict {
	if x.req.Upgrade() == nil || x.resp.Upgraded() == nil {
		return x.giveUp(inner(502, "http_upgrade_failed", x.lease.Addr(), "switched to another protocol without being asked"))
	}
	x.answered, x.status = time.Now(), 101
	x.out = http1.AppendResponse(x.out[:0], &x.resp, &http1.ResponseRewrite{Via: x.s.status})
	x.renew(time.Now())
	if _, err := x.client.Write(x.out); err != nil {
		return x.abandon()
	}
	x.begun = true
	x.finish(upstream.Answered)
	if x.up != nil {
		// The request comes first in whole, then the other protocol (RFC 9110 §7.8).
		if !x.up.finish(false) {
			return broken
		}
		x.up.giveBack()
	}
	_ = x.client.tracked.conn.SetDeadline(time.Time{})
	_ = x.lease.SetDeadline(time.Time{})
	early := slices.Clone(x.in[x.from:x.to])
	late := slices.Clone(x.back[n:filled])
	x.from, x.to = 0, 0
	x.back, x.out = nil, nil // the relay brings its own
	stats, err := relay.Copy(x.s.p.ctx,
		relay.WithPrefix(x.client.Conn, early),
		relay.WithPrefix(x.lease, late), relayTimeout)
	x.moved = stats.BToA
	x.s.metrics.relayed(stats)
	if err != nil {
		x.reason, x.detail = "broken_off", err.Error()
	}
	x.client.far.Store(nil)
	x.lease = nil
	return switched
}
