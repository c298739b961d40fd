package exchange

import (
	"errors"
	"net"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
)

// clientConn is the client's end of the exchanges of a connection that speaks HTTP/1.1,
// one after the other. It belongs to one goroutine at a time, and to none while it waits for a
// request for long (idle.go).
type clientConn struct {
	session
	idle idleConn
}

// serve serves requests until the connection is over, or reports that it is parked.
func (c *clientConn) serve() (parked bool) {
	for c.readHead() && c.serveRequest() {
	}
	return c.idle.parked
}

// leave ends the connection, unless the client has begun to speak HTTP/2.
func (c *clientConn) leave() {
	if c.http2 {
		c.client.Conn = relay.WithPrefix(c.client.Conn, slices.Clone(c.in[c.from:c.to]))
	} else {
		_ = c.client.Close()
	}
	c.release()
	c.s.Metrics.httpConnections().Dec()
}

// Read reads what the client sends.
func (c *clientConn) Read(b []byte) (int, error) {
	if c.plain != nil {
		return c.plain.Read(b)
	}
	return c.client.Read(b)
}

// Write writes to the client.
func (c *clientConn) Write(b []byte) (int, error) {
	if c.plain != nil {
		return c.plain.Write(b)
	}
	return c.client.Write(b)
}

// SetReadDeadline bounds what is read of the client.
func (c *clientConn) SetReadDeadline(t time.Time) error { return c.client.SetReadDeadline(t) }

// SetWriteDeadline bounds what is written to the client.
func (c *clientConn) SetWriteDeadline(t time.Time) error { return c.client.SetWriteDeadline(t) }

func (c *clientConn) ready() bool         { return true }
func (c *clientConn) await() error        { return nil }
func (c *clientConn) gone() bool          { return c.client.Gone() }
func (c *clientConn) abort()              { c.client.Abort() }
func (c *clientConn) relayed() relay.Conn { return c.client.Conn }

func (c *clientConn) appendHead(dst []byte, r *http1.Response, o http1.ResponseRewrite, _ bool) []byte {
	return http1.AppendResponse(dst, r, &o)
}

// readHead reads the next request's head into c.req and reports whether there is
// one. What follows it is in[from:to].
func (c *clientConn) readHead() bool {
	if c.from == c.to {
		c.from, c.to = 0, 0
		if !c.awaitRequest() {
			return false
		}
	}
	c.req.Reset()
	c.req.LeaveRoom = c.s.Outbound
	deadline := false
	for {
		n, err := c.req.Parse(c.in[c.from:c.to])
		if errors.Is(err, http1.ErrHTTP2) && c.fresh {
			c.http2 = true
			return false
		}
		if errors.Is(err, http1.ErrTLS) {
			c.refuseTLS()
			return false
		}
		if err != nil {
			c.refuse(badRequest(err))
			return false
		}
		if n > 0 {
			c.from += n
			c.fresh = false
			return true
		}
		if !deadline {
			deadline = true
			c.idle.deadline = time.Time{}
			_ = c.client.SetReadDeadline(time.Now().Add(headTimeout))
		}
		c.makeRoom()
		n, err = c.Read(c.in[c.to:])
		c.to += n
		if err != nil && n == 0 {
			if errors.Is(err, net.ErrClosed) || c.from == c.to {
				return false
			}
			if connect.IsTimeout(err) {
				c.refuse(LocalReply{408, connect.RequestError, "the request's head did not arrive in time", ""})
			}
			return false
		}
	}
}

// makeRoom moves what has arrived to the front, or grows the buffer. The parser
// holds offsets from the head's start, so that it notices neither.
func (c *clientConn) makeRoom() {
	if c.to < len(c.in) {
		return
	}
	if c.from > 0 {
		c.to = copy(c.in, c.in[c.from:c.to])
		c.from = 0
		return
	}
	grown := make([]byte, 2*len(c.in)) // http1.MaxHead bounds it
	copy(grown, c.in)
	c.in = grown
}

// refuse answers what is not to become an exchange, and ends the connection.
func (c *clientConn) refuse(r LocalReply) {
	c.s.Metrics.localReply(r.Reason)
	c.s.Log.Debug("refused a request", "peer_addr", c.client.PeerAddr(), "code", r.Status, "reason", r.Reason, "err", r.logged())
	c.writeReply(r, true, false, "")
	c.linger()
}

// handshakeFailure is a fatal alert of TLS: a record of it (RFC 8446 §5.1, §6.2).
var handshakeFailure = []byte{21, 3, 3, 0, 2, 2, 40}

// refuseTLS ends the connection of a client that begins TLS in words that it reads.
func (c *clientConn) refuseTLS() {
	c.s.Metrics.localReply(connect.RequestError)
	c.s.recordTLS()
	_ = c.client.SetWriteDeadline(time.Now().Add(lingerTimeout))
	_, _ = c.Write(handshakeFailure) // the client may be gone
	c.linger()
}

func (c *clientConn) reply(r LocalReply, last bool) {
	c.writeReply(r, last, c.req.Method == http1.Head, c.x.mark)
}

// writeReply writes an answer of the mesh itself. mark is as in [session.appendReply].
func (c *clientConn) writeReply(r LocalReply, last, bodiless bool, mark string) {
	now := time.Now()
	c.out = c.appendReply(c.out[:0], now, r, last, bodiless, mark)
	_ = c.client.SetWriteDeadline(now.Add(lingerTimeout))
	c.writeLimit = streamDeadline{}
	_, _ = c.Write(c.out) // the client may be gone
}

// finish reads what is left of the request's body, so that the next one can be told from
// it, or lets the client read its answer before the connection ends.
func (c *clientConn) finish(whole bool) bool {
	up := c.x.up
	if up != nil {
		c.idle.deadline = time.Time{} // it has set deadlines of its own
	}
	if !whole && !c.x.closing {
		whole = up.discard()
	}
	c.x.log() // unread may write over the head
	c.unread(up.leftover())
	if !c.x.closing && whole {
		return true
	}
	if !whole || c.from < c.to {
		c.linger()
	}
	return false
}

// unread puts back what came behind a request's body: the next request.
func (c *clientConn) unread(rest []byte) {
	if len(rest) == 0 {
		return
	}
	if len(rest) > len(c.in) {
		c.in = make([]byte, replaySize)
	}
	c.from, c.to = 0, copy(c.in, rest)
}

// linger lets a client that is still sending read its answer: closing at once
// would reset the connection and the answer with it (RFC 9112 §9.6).
func (c *clientConn) linger() {
	if c.client.CloseWrite() != nil {
		return
	}
	_ = c.client.SetReadDeadline(time.Now().Add(lingerTimeout))
	// By time and not by bytes: a fast sender must get its chance to read, too.
	for {
		if _, err := c.Read(c.in); err != nil {
			return
		}
	}
}
