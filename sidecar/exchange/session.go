package exchange

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
)

// session is one client connection that speaks HTTP/1.1. All of it belongs to the
// connection's goroutine.
type session struct {
	*buffers
	s       *Server
	ctx     context.Context // over when everything must end at once
	client  *Client
	rewrite http1.RequestRewrite
	// refusal is why the first request cannot be served; the next ask again.
	refusal error
	// judgedBy is the policy that decided about the connection last, as connection says.
	judgedBy   *policy.Authorizer
	connection policy.Decision
	writeLimit streamDeadline // of the client
	from       int            // in buffers.in: what has arrived and is not consumed
	to         int
}

// readHead reads the next request's head into h.req and reports whether there is
// one. What follows it is in[from:to].
func (h *session) readHead() bool {
	if h.from == h.to {
		h.from, h.to = 0, 0
		if !h.await() {
			return false
		}
	}
	h.req.Reset()
	h.req.LeaveRoom = h.s.Outbound
	deadline := false
	for {
		n, err := h.req.Parse(h.in[h.from:h.to])
		if err != nil {
			h.s.recordMismatch(err)
			h.refuse(badRequest(err))
			return false
		}
		if n > 0 {
			h.from += n
			return true
		}
		if !deadline {
			deadline = true
			_ = h.client.SetReadDeadline(time.Now().Add(headTimeout))
		}
		h.makeRoom()
		n, err = h.client.Read(h.in[h.to:])
		h.to += n
		if err != nil && n == 0 {
			if errors.Is(err, net.ErrClosed) || h.from == h.to {
				return false
			}
			if connect.IsTimeout(err) {
				h.refuse(LocalReply{408, connect.RequestError, "the request's head did not arrive in time", ""})
			}
			return false
		}
	}
}

// makeRoom moves what has arrived to the front, or grows the buffer. The parser
// holds offsets from the head's start, so that it notices neither.
func (h *session) makeRoom() {
	if h.to < len(h.in) {
		return
	}
	if h.from > 0 {
		h.to = copy(h.in, h.in[h.from:h.to])
		h.from = 0
		return
	}
	grown := make([]byte, 2*len(h.in)) // http1.MaxHead bounds it
	copy(grown, h.in)
	h.in = grown
}

// await waits for the first bytes of a request. A connection that stays idle gives
// its buffers back meanwhile.
func (h *session) await() bool {
	open := h.client.Open
	now := time.Now()
	patience := idleTimeout
	if h.refusal != nil {
		patience = refusedIdleTimeout
	}
	open.Waiting(now.Add(h.s.Park))
	defer open.Busy()
	n, err := h.client.Read(h.in)
	if n > 0 {
		h.to = n
		return true
	}
	if !connect.IsTimeout(err) || h.s.Conns.Draining() {
		return false
	}
	h.release()
	h.buffers = nil
	open.Waiting(now.Add(patience))
	ok := readable(h.client.Accepted)
	h.buffers = takeBuffers()
	if !ok {
		return false
	}
	// Something is there, if only an end or part of a record.
	_ = h.client.SetReadDeadline(time.Now().Add(headTimeout))
	n, _ = h.client.Read(h.in)
	h.to = n
	return n > 0
}

// refuse answers what is not even a request, and ends the connection.
func (h *session) refuse(r LocalReply) {
	h.s.Metrics.localReply(r.Reason)
	h.s.Log.Debug("refused a request", "peer_addr", h.client.PeerAddr(), "code", r.Status, "reason", r.Reason, "err", r.logged())
	h.writeReply(r, true, false, false)
	h.linger()
}

// writeReply writes an answer of the mesh itself. repeated says that the request was
// sent twice.
func (h *session) writeReply(r LocalReply, last, bodiless, repeated bool) {
	now := time.Now()
	status := connect.ProxyStatus(h.s.Name, r.Reason, r.Detail)
	if repeated {
		status += repeatedParameter
	}
	h.out = http1.AppendLocalReply(h.out[:0], &http1.LocalReply{
		Status:      r.Status,
		ProxyStatus: status,
		Text:        r.Detail + "\n",
		Close:       last,
		Bodiless:    bodiless,
		Date:        h.s.date.at(now),
	})
	_ = h.client.SetWriteDeadline(now.Add(lingerTimeout))
	h.writeLimit = streamDeadline{}
	_, _ = h.client.Write(h.out) // the client may be gone
}

// extendWriteDeadline moves the client's write deadline on.
func (h *session) extendWriteDeadline(now time.Time) {
	h.writeLimit.extend(now, h.x.bounds, h.client.SetWriteDeadline)
}

// unread puts back what came behind a request's body: the next request.
func (h *session) unread(rest []byte) {
	if len(rest) == 0 {
		return
	}
	if len(rest) > len(h.in) {
		h.in = make([]byte, replaySize)
	}
	h.from, h.to = 0, copy(h.in, rest)
}

// linger lets a client that is still sending read its answer: closing at once
// would reset the connection and the answer with it (RFC 9112 §9.6).
func (h *session) linger() {
	if h.client.CloseWrite() != nil {
		return
	}
	_ = h.client.SetReadDeadline(time.Now().Add(lingerTimeout))
	// By time and not by bytes: a fast sender must get its chance to read, too.
	for {
		if _, err := h.client.Read(h.in); err != nil {
			return
		}
	}
}
