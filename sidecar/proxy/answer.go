package proxy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// Our names in Proxy-Status.
const (
	outboundStatus = "isthmus-outbound"
	inboundStatus  = "isthmus-inbound"
)

// localReply is why the mesh answers a request itself.
type localReply struct {
	status int
	reason string // an error type of RFC 9209 §2.3, also the access log's reason
	detail string // for the caller: no addresses inside the mesh; becomes plain ASCII on the wire
	cause  string // for the log, with addresses; empty: detail
}

// These reasons mark an answer of an inbound that could not reach its program: no
// application has seen the request.
const (
	connectionRefused = "connection_refused"
	connectionTimeout = "connection_timeout"
)

// noHost is the reply when nobody is left to ask; last is why the last one failed.
func noHost(last error) localReply {
	var refusal *connect.Refusal
	var failed *upstream.ConnectError
	var far *farFault
	switch {
	case errors.Is(last, upstream.ErrNobody):
		return localReply{503, "destination_unavailable", last.Error(), ""}
	case errors.As(last, &refusal):
		f := localReply{refusal.Status, refusal.Type, refusal.Error(), last.Error()}
		if f.status < 400 || f.status > 599 {
			f.status = 502
		}
		if !token(f.reason) { // it goes into a field of ours as it is
			f.reason = "destination_unavailable"
		}
		return f
	case errors.As(last, &far):
		return localReply{far.status, "destination_unavailable", far.Error(), ""}
	case errors.As(last, &failed):
		reason := connectionRefused
		switch {
		case timedOut(last):
			return localReply{504, connectionTimeout, unconnected(failed), last.Error()}
		case failed.Stage == upstream.StageHandshake:
			reason = "tls_protocol_error"
		case failed.Stage == upstream.StagePath:
			reason = "destination_unavailable"
		}
		return localReply{502, reason, unconnected(failed), last.Error()}
	}
	return localReply{502, "connection_terminated", "the connection to the instance ended without an answer: did the process there end?", last.Error()}
}

// unconnected says to a caller why there is no connection.
func unconnected(e *upstream.ConnectError) string {
	who := "an instance"
	switch {
	case e.Destination == (mesh.Destination{}):
		who = "the program"
	case e.Gateway:
		who = "a gateway"
	}
	hint := ""
	if e.Stage == upstream.StageConnect {
		hint = ": is it running, and does it listen?"
	}
	return fmt.Sprintf("no connection to %s: %s: %s%s", who, e.Stage, connect.Public(e.Err), hint)
}

// inner is the reply to what an instance did, of which addr is for the log only.
func inner(status int, reason, addr, format string, args ...any) localReply {
	text := fmt.Sprintf(format, args...)
	return localReply{status, reason, "the instance " + text, addr + " " + text}
}

// token reports whether s looks like an error type of RFC 9209.
func token(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && c != '_' {
			return false
		}
	}
	return s != ""
}

// noRoute is the reply when the destination is not known, or not for this client.
func noRoute(err error) localReply {
	switch {
	case errors.Is(err, routes.ErrAbsent):
		return localReply{404, "destination_not_found", err.Error(), ""}
	case errors.Is(err, errPlainCaller):
		return localReply{403, "http_request_denied", err.Error(), ""}
	}
	return localReply{503, "destination_unavailable", err.Error(), ""}
}

// badRequest is the reply to a message that http1 refuses.
func badRequest(err error) localReply {
	var e *http1.Error
	if errors.As(err, &e) {
		return localReply{e.Status, "http_request_error", e.Reason, ""}
	}
	return localReply{400, "http_request_error", err.Error(), ""}
}

// logged returns what the log says.
func (f localReply) logged() string { return cmp.Or(f.cause, f.detail) }

// proxyStatus returns the field's value.
func (f localReply) proxyStatus(name string) string {
	return connect.ProxyStatus(name, f.reason, f.detail)
}

// farFault is an answer that a far sidecar made, taken as a failed attempt.
type farFault struct {
	status      int
	proxyStatus string
}

// Error says what the far sidecar said.
func (e *farFault) Error() string {
	return fmt.Sprintf("the far sidecar answered %d: %s", e.status, e.proxyStatus)
}

var (
	inboundMark = []byte(inboundStatus + "; error=")
	refusedMark = []byte(inboundStatus + "; error=" + connectionRefused + ";")
	timeoutMark = []byte(inboundStatus + "; error=" + connectionTimeout + ";")
)

// meshMade reports whether r is an answer that a far sidecar made because it got
// none from its program, and whether the program has certainly not seen the
// request. Every proxy on the way appends its name in a field of its own, and
// ProxyStatus gives the last: what another hop's inbound said does not count, nor
// what the program passes on of a call of its own.
func meshMade(r *http1.Response) (made, unseen bool) {
	switch r.Status {
	case 502, 503, 504:
		s := r.ProxyStatus()
		return bytes.HasPrefix(s, inboundMark), bytes.HasPrefix(s, refusedMark) || bytes.HasPrefix(s, timeoutMark)
	}
	return false, false
}
