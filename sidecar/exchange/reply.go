package exchange

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// The names of sidecars in Proxy-Status.
const (
	OutboundName = "isthmus-outbound"
	InboundName  = "isthmus-inbound"
)

// LocalReply is an answer that the mesh makes itself, and why.
type LocalReply struct {
	Status int
	Reason string // an error type of RFC 9209 §2.3, also the access log's reason; empty: a redirect to the exchange's location
	Detail string // for the caller: no addresses inside the mesh; becomes plain ASCII on the wire
	Cause  string // for the log, with addresses; empty: Detail
}

// Error says what the log says.
func (r *LocalReply) Error() string { return r.logged() }

func (r *LocalReply) logged() string { return cmp.Or(r.Cause, r.Detail) }

// inner is the reply to what an instance did, of which addr is for the log only.
func inner(status int, reason, addr, format string, args ...any) LocalReply {
	text := fmt.Sprintf(format, args...)
	return LocalReply{status, reason, "the instance " + text, addr + " " + text}
}

// Error types of RFC 9209 that only answers to requests carry.
const (
	protocolError      = "http_protocol_error"
	responseIncomplete = "http_response_incomplete"
	responseTimeout    = "http_response_timeout"
	upgradeFailed      = "http_upgrade_failed"
	tlsError           = "tls_protocol_error"
)

// noHost is the reply when nobody is left to ask; last is why the last one failed.
func noHost(last error) LocalReply {
	var refusal *connect.Refusal
	var failed *upstream.ConnectError
	var far *farReply
	switch {
	case errors.Is(last, upstream.ErrNobody):
		return LocalReply{503, connect.DestinationUnavailable, last.Error(), ""}
	case errors.As(last, &refusal):
		r := LocalReply{refusal.Status, refusal.Type, refusal.Error(), last.Error()}
		if r.Status < 400 || r.Status > 599 {
			r.Status = 502
		}
		if !token(r.Reason) { // it goes into a field of ours as it is
			r.Reason = connect.DestinationUnavailable
		}
		return r
	case errors.As(last, &far):
		return LocalReply{far.status, connect.DestinationUnavailable, far.Error(), ""}
	case unprocessed(last):
		return LocalReply{503, connect.DestinationUnavailable, "the instance takes no more requests at the moment", last.Error()}
	case errors.As(last, &failed) && failed.Advice() != "":
		return LocalReply{503, connect.ProxyInternal, "this sidecar cannot connect: " + failed.Advice(), last.Error()}
	case errors.As(last, &failed):
		r := LocalReply{502, connectReason(failed), unconnected(failed), last.Error()}
		if connect.IsTimeout(last) {
			r.Status, r.Reason = 504, connect.ConnectionTimeout
		}
		return r
	}
	return terminated(last)
}

// terminated is the reply to a request that somebody may have seen who gave no answer.
func terminated(last error) LocalReply {
	if reset, ok := errors.AsType[*streams.ResetError](last); ok && reset.Remote {
		return LocalReply{502, connect.ConnectionTerminated, fmt.Sprintf("the instance reset the stream without an answer: %v", reset.Code), last.Error()}
	}
	return LocalReply{502, connect.ConnectionTerminated, "the connection to the instance ended without an answer: did the process there end?", last.Error()}
}

// connectReason is the error type of a connection that could not be made. There is no TLS
// with a program: with it a handshake is HTTP/2's, and who fails it has seen no request.
func connectReason(e *upstream.ConnectError) string {
	switch {
	case e.Stage == upstream.StageHandshake && e.Destination != (mesh.Destination{}):
		return tlsError
	case e.Stage == upstream.StagePath:
		return connect.DestinationUnavailable
	}
	return connect.ConnectionRefused
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

// token reports whether s looks like an error type of RFC 9209.
func token(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && c != '_' {
			return false
		}
	}
	return s != ""
}

// noService is the reply when it is not known where a request goes.
func noService(err error) LocalReply {
	var r *LocalReply
	if errors.As(err, &r) {
		return *r
	}
	return LocalReply{503, connect.DestinationUnavailable, err.Error(), ""}
}

// badRequest is the reply to a message that http1 refuses.
func badRequest(err error) LocalReply {
	var e *http1.Error
	if errors.As(err, &e) {
		return LocalReply{e.Status, connect.RequestError, e.Reason, ""}
	}
	return LocalReply{400, connect.RequestError, err.Error(), ""}
}

// repeatedParameter stands at the end of Proxy-Status when the request was sent to the
// program twice: whoever reads it does not send it again.
const repeatedParameter = "; repeated"

// resetParameter stands there when the program may have seen the request, but its kernel has reset
// the connection, as it does for what a program that ends has not accepted or not read: it did
// not die of it.
const resetParameter = "; reset"

// These marks begin Proxy-Status of an answer of an inbound that got none from its
// program.
var (
	seenMark    = []byte(InboundName + "; error=" + connect.ConnectionTerminated + ";")
	unseenMarks = [][]byte{ // no application has seen the request
		[]byte(InboundName + "; error=" + connect.ConnectionRefused + ";"),
		[]byte(InboundName + "; error=" + connect.ConnectionTimeout + ";"),
		[]byte(InboundName + "; error=" + connect.DestinationUnavailable + ";"),
		[]byte(InboundName + "; error=" + connect.ProxyInternal + ";"),
	}
)

// farSaid is what a far sidecar said of its program.
type farSaid uint8

const (
	anAnswer farSaid = iota // it is the program's, or one that a retry would bring again
	unseen                  // the program has not seen the request
	seenOnce                // the program may have seen it, once, and gave no answer
	wasReset                // its kernel reset the connection: it did not die of it
)

// saidByFarSidecar reads r, which a far sidecar has sent. Every proxy on the way appends
// its name in a field of its own, and ProxyStatus gives the last: what another hop's
// inbound said does not count, nor what the program passes on of a call of its own.
func saidByFarSidecar(r *http1.Response) farSaid {
	s := r.ProxyStatus()
	switch r.Status {
	case 502, 503, 504:
	case 200: // of gRPC
		if s == nil || r.Value("grpc-status") == nil {
			return anAnswer
		}
	default:
		return anAnswer
	}
	for _, mark := range unseenMarks {
		if bytes.HasPrefix(s, mark) {
			return unseen
		}
	}
	switch {
	case !bytes.HasPrefix(s, seenMark), bytes.HasSuffix(s, []byte(repeatedParameter)):
		return anAnswer
	case bytes.HasSuffix(s, []byte(resetParameter)):
		return wasReset
	}
	return seenOnce
}
