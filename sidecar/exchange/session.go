package exchange

import (
	"context"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/socket"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
)

// session is what exchanges of one client have in common. All of it belongs to the goroutine
// that serves them.
type session struct {
	*buffers
	s       *Server
	ctx     context.Context // over when everything must end at once
	client  *Client
	plain   *socket.Socket // of a client that speaks HTTP/1.1 with nothing over its socket; else nil
	end     clientEnd
	rewrite http1.RequestRewrite
	// refusal is why the first request cannot be served; the next ask again.
	refusal error
	// judgedBy is the policy that decided about the connection last, as connection says.
	judgedBy   *policy.Authorizer
	connection policy.Decision
	writeLimit streamDeadline // of the client
	from       int            // in buffers.in: what has arrived and is not consumed
	to         int
	fresh      bool // no request came yet
	http2      bool // and none will: the client has begun to speak HTTP/2
}

// appendReply appends an answer of the mesh itself. mark stands at the end of its Proxy-Status:
// repeatedParameter, resetParameter or nothing.
func (h *session) appendReply(dst []byte, now time.Time, r LocalReply, last, bodiless bool, mark string) []byte {
	text, status, location := r.Detail+"\n", connect.ProxyStatus(h.s.Name, r.Reason, r.Detail)+mark, ""
	if r.Reason == "" { // a redirect, which is no error
		text, status, location = "", "", h.x.location
	}
	if h.x.grpc {
		text = r.Detail
	}
	return http1.AppendLocalReply(dst, &http1.LocalReply{
		Status:      r.Status,
		ProxyStatus: status,
		Location:    location,
		Text:        text,
		GRPC:        h.x.grpc,
		GRPCStatus:  r.grpcStatus(),
		Close:       last,
		Bodiless:    bodiless,
		Date:        h.s.date.at(now),
	})
}

// extendWriteDeadline moves the client's write deadline on.
func (h *session) extendWriteDeadline(now time.Time) {
	h.writeLimit.extend(now, h.x.bounds, h.end.SetWriteDeadline)
}
