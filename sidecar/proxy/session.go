package proxy

import (
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/sidecar/http1"
)

// session is one client connection that speaks HTTP/1.1. All of it belongs to the
// connection's goroutine.
type session struct {
	*buffers
	s       *server
	client  *client
	rewrite http1.RequestRewrite
	// noRoute is why the first request cannot be served; the next ask again.
	noRoute error
	served  int       // requests
	lease   time.Time // until when the client's write deadline is good
	from    int       // in buffers.in: what has arrived and is not consumed
	to      int
}

// buffers are what a busy connection needs and an idle one gives back.
type buffers struct {
	in   []byte // read from the client
	back []byte // read from upstream
	out  []byte // heads on their way, with what goes along
	id   [36]byte
	x    exchange
	req  http1.Request
	resp http1.Response
}

var bufferPool = sync.Pool{New: func() any {
	return &buffers{
		in:   make([]byte, clientBuffer),
		back: make([]byte, backBuffer),
		out:  make([]byte, 0, backBuffer+4<<10),
	}
}}

func takeBuffers() *buffers { return bufferPool.Get().(*buffers) }

func (m *buffers) release() {
	if len(m.in) > clientBuffer {
		m.in = make([]byte, clientBuffer) // it had to grow for one head
	}
	if m.out == nil || cap(m.out) > 4*backBuffer {
		m.out = make([]byte, 0, backBuffer+4<<10)
	}
	if m.back == nil || len(m.back) > 2*backBuffer {
		m.back = make([]byte, backBuffer)
	}
	m.x = exchange{}
	bufferPool.Put(m)
}

// serveHTTP serves requests on c until either side has enough. With a noRoute the
// first request is answered with it.
func (s *server) serveHTTP(c *client, rewrite http1.RequestRewrite, noRoute error) {
	s.metrics.httpConnections.Inc()
	defer s.metrics.httpConnections.Dec()
	h := &session{buffers: takeBuffers(), s: s, client: c, rewrite: rewrite, noRoute: noRoute}
	defer func() {
		h.release()
		_ = c.Close()
	}()
	for h.readHead() && h.exchange() {
		h.served++
	}
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
	h.req.LeaveRoom = h.s.direction == outbound
	deadline := false
	for {
		n, err := h.req.Parse(h.in[h.from:h.to])
		if err != nil {
			h.s.noteMismatch(err)
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
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				h.refuse(localReply{408, "http_request_error", "the request's head did not arrive in time", ""})
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
	t := &h.s.p.conns
	now := time.Now()
	patience := idleTimeout
	if h.noRoute != nil {
		patience = routeTimeout
	}
	t.waiting(h.client.tracked, now.Add(h.s.parkAfter))
	defer t.busy(h.client.tracked)
	n, err := h.client.Read(h.in)
	if n > 0 {
		h.to = n
		return true
	}
	if !timedOut(err) || t.isDraining() {
		return false
	}
	h.release()
	h.buffers = nil
	t.waiting(h.client.tracked, now.Add(patience))
	ok := readable(h.client.tracked.conn)
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

func timedOut(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// readable waits without a buffer until conn has something to read, its end
// included, or until its read deadline: then it is false.
func readable(conn net.Conn) bool {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return true
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	var b [1]byte
	err = raw.Read(func(fd uintptr) bool {
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	return err == nil
}

// gone reports whether the client has closed or reset its connection. It looks and
// does not wait. Bytes that wait to be read hide what is behind them. An end of what
// the client sends is none of what it reads: one that half-closed gets its answer,
// however long that takes. A sidecar never half-closes.
func gone(c *client) bool {
	tcp, ok := c.tracked.conn.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return true
	}
	ended, closed := false, false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		ended = n == 0 && err == nil
		closed = err != nil && err != unix.EAGAIN && err != unix.EINTR
		if ended { // a reset behind it does not show in the read
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			closed = err == nil && info.State == unix.BPF_TCP_CLOSE
		}
	})
	return err != nil || closed || ended && (c.peer != "" || orphaned(tcp))
}

// refuse answers what is not even a request, and ends the connection.
func (h *session) refuse(f localReply) {
	h.s.metrics.made(f.reason)
	h.s.log.Debug("refused a request", "peer_addr", h.client.tracked.conn.RemoteAddr().String(), "code", f.status, "reason", f.reason, "err", f.logged())
	h.answer(f, true, false)
	h.linger()
}

// answer writes an answer of the mesh itself.
func (h *session) answer(f localReply, last, bodiless bool) {
	now := time.Now()
	h.out = http1.AppendLocalReply(h.out[:0], &http1.LocalReply{
		Status:      f.status,
		ProxyStatus: f.proxyStatus(h.s.status),
		Text:        f.detail + "\n",
		Date:        h.s.p.date.at(now),
		Close:       last,
		Bodiless:    bodiless,
	})
	_ = h.client.SetWriteDeadline(now.Add(lingerTimeout))
	h.lease = time.Time{}
	_, _ = h.client.Write(h.out) // the client may be gone
}

// renew moves the client's write deadline on, when that makes a difference: a timer
// costs more than a look at the time.
func (h *session) renew(now time.Time) {
	if h.lease.Sub(now) < streamTimeout*7/8 {
		h.lease = now.Add(streamTimeout)
		_ = h.client.SetWriteDeadline(h.lease)
	}
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
