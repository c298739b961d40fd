package upstream

import (
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/socket"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// Conn is a connection to who serves: after TLS, so that what is read and
// written is payload. It belongs to who got it until [Lease.Return] or Close. As
// with any net.Conn, one goroutine may read while another writes.
type Conn struct {
	net.Conn

	// Reused says that the connection comes out of the pool.
	Reused bool
	// ReadBy is for who has the connection: the deadline for reading that it has set last.
	ReadBy time.Time
	// Cluster and Instance are who answers at the other end. They are empty
	// when a gateway did not say.
	Cluster  mesh.ClusterName
	Instance string
	// Peer is the SPIFFE ID that was proved, empty on a plain connection.
	Peer string

	host       *Host
	dialConfig *dialConfig
	sock       net.Conn       // TCP
	plain      *socket.Socket // the same, when nothing is over it; else nil
	path       *pathConn      // through a gateway; else nil
	peek       socketPeek
	opened     instant
	weight     uint32          // of the instance behind a gateway, 0: not said
	expires    instant         // with either certificate, 0: never
	refreshAt  atomic.Int64    // instant at which Refresh has something to do, 0: never
	trustPast  <-chan struct{} // closes when who is trusted has to be asked again; nil: plain
	program    bool            // a program's own socket is at the other end, or behind a gateway that ends the TLS for it
	keepFor    time.Duration   // who answers closes it soon after so much idleness; 0: not said
	sent       atomic.Bool
	answered   atomic.Bool

	mux    *streams.Conn // speaks HTTP/2 on it; nil: the connection is used as it is
	blamed atomic.Bool   // the end of a connection with streams has been counted
	shared bool          // it is in its host's sharing
	wire   wire

	// Of a connection with streams; guarded by the lock of its sharing, or of the pool.
	leased int  // streams
	served bool // somebody had one before
	past   bool // no new ones

	// Of a path with streams; guarded by the pool's lock.
	most     int     // streams at a time
	occupied bool    // no new ones until one of those that run has ended
	progress instant // when an exchange ended in order, or the first of those that run began

	// Guarded by the pool's lock.
	instance *instance // to which the pool counts it; nil: not counted, written by its owner only
	idle     bool
	taken    instant // given out at; 0: not by the pool
	since    instant // idle since; of a shared connection guarded by the lock of its sharing
}

// Asks reports whether [Conn.Ask] may be called.
func (c *Conn) Asks() bool { return c.plain != nil }

// Ask writes question and reads the beginning of the answer, as [socket.Socket.Ask].
func (c *Conn) Ask(question, answer []byte) (sent, n int, err error) {
	sent, n, err = c.plain.Ask(question, answer)
	if sent > 0 {
		c.sent.Store(true)
	}
	if n > 0 {
		c.answered.Store(true)
	}
	return sent, n, err
}

// Read reads payload.
func (c *Conn) Read(b []byte) (n int, err error) {
	if c.plain != nil {
		n, err = c.plain.Read(b)
	} else {
		c.Refresh()
		n, err = c.Conn.Read(b)
	}
	if n > 0 && !c.answered.Load() {
		c.answered.Store(true)
	}
	return n, err
}

// Write writes payload.
func (c *Conn) Write(b []byte) (n int, err error) {
	if c.plain != nil {
		n, err = c.plain.Write(b)
	} else {
		n, err = c.Conn.Write(b)
	}
	if n > 0 && !c.sent.Load() {
		c.sent.Store(true)
	}
	return n, err
}

// Sent reports whether payload has left since [Attempts.Next]. When nothing has, no
// application saw the request, and it may be tried elsewhere whatever it is.
func (c *Conn) Sent() bool { return c.sent.Load() }

// Answered reports whether payload has arrived since [Attempts.Next].
func (c *Conn) Answered() bool { return c.answered.Load() }

// CloseWrite ends our direction: close_notify within TLS, FIN on a plain
// connection. What was written before arrives.
func (c *Conn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.New("close write: the connection cannot be closed in halves")
	}
	return half.CloseWrite()
}

// Socket returns the TCP connection whose bytes the payload is, nil with TLS in
// between: for [relay.Socket].
func (c *Conn) Socket() *net.TCPConn {
	tcp, _ := c.Conn.(*net.TCPConn)
	return tcp
}

// Abort closes the connection such that the other side sees an error (RST) and
// not a clean end. It may be called more than once and beside reads and writes.
func (c *Conn) Abort() error {
	if l, ok := c.sock.(interface{ SetLinger(sec int) error }); ok {
		_ = l.SetLinger(0) // fails on a closed connection only
	}
	c.host.service.shared.secured.remove(c)
	err := c.sock.Close()
	if c.mux != nil {
		c.mux.Abort(net.ErrClosed)
	}
	return err
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.host.service.shared.secured.remove(c)
	if c.mux != nil {
		return c.mux.Close()
	}
	return c.Conn.Close()
}

// http2 reports whether the connection, which is new, speaks HTTP/2: by ALPN, or because the
// program is known to.
func (c *Conn) http2(config *dialConfig, a *Attempts) bool {
	if over, ok := c.Conn.(*tls.Conn); ok && over.ConnectionState().NegotiatedProtocol == mesh.ALPNHTTP2 {
		return true
	}
	return wireOf(config.protocol, a) == wireHTTP2
}

// fits reports whether the connection may serve under config: the protocol is
// the same, and who answers still may. A change of the identities elsewhere does
// not cost the connections that it has nothing to do with.
func (c *Conn) fits(config *dialConfig) bool {
	return c.dialConfig == config || c.dialConfig.protocol == config.protocol && (c.Peer == "" || slices.Contains(config.identities, c.Peer))
}

// going reports whether a gateway has said that the path is about to end.
func (c *Conn) going() bool { return c.path != nil && c.path.going.Load() }

// trusted reports whether who answers would still be let in. It asks only when what
// this process trusts has changed since it last did. The connection must be idle, or
// the caller's.
func (c *Conn) trusted() bool {
	select {
	case <-c.trustPast:
	default:
		return true
	}
	over, ok := c.Conn.(*tls.Conn)
	if !ok {
		return true
	}
	trust := c.host.service.shared.cfg.Identity.Trust()
	past := trust.Past()
	if err := trust.Trusts(over.ConnectionState(), c.dialConfig.policy); err != nil {
		return false
	}
	c.trustPast = past
	return true
}

// ToSidecar reports whether a sidecar is at the other end: it has proved to be a workload
// of the mesh. Else it is a program's own socket, or a gateway that ends the TLS for one.
func (c *Conn) ToSidecar() bool { return !c.program }

// Proof returns what the peer has proved of itself, and how that is judged again while
// the connection is in use; ok is false for a plain connection.
func (c *Conn) Proof() (cs tls.ConnectionState, trusts func(tls.ConnectionState) error, ok bool) {
	over, ok := c.Conn.(*tls.Conn)
	if !ok {
		return tls.ConnectionState{}, nil, false
	}
	shared, policy := c.host.service.shared, c.dialConfig.policy
	return over.ConnectionState(), func(cs tls.ConnectionState) error {
		return shared.renewals.Trusts(shared.cfg.Identity.Trust(), cs, policy)
	}, true
}

// remote returns the instance of another cluster that answers. It is zero unless
// the connection goes through a gateway that has named it.
func (c *Conn) remote() connect.Instance {
	if c == nil || !c.host.key.gateway {
		return connect.Instance{}
	}
	return connect.Instance{Cluster: c.Cluster, Name: c.Instance}
}

// alive reports whether the idle connection has neither been closed by the
// other side nor sent anything that nobody asked for, or a goodbye.
func (c *Conn) alive() bool {
	if c.mux != nil {
		return !c.mux.GoingAway() // it is being read
	}
	return c.peek.quiet()
}

// saysGoodbye reports whether what an idle path has to read begins with a goodbye.
func (c *Conn) saysGoodbye() bool {
	if c.path == nil || c.peek.raw == nil {
		return false
	}
	var first [1]byte
	n := 0
	if err := c.peek.raw.Control(func(fd uintptr) {
		n, _, _ = unix.Recvfrom(int(fd), first[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	}); err != nil || n != 1 {
		return false
	}
	_, goodbye := new(connect.Records).Strip(first[:])
	return goodbye
}

// socketPeek looks at a socket without reading from it or waiting.
type socketPeek struct {
	raw    syscall.RawConn // nil: not a socket, always quiet
	look   func(fd uintptr)
	poll   [1]unix.PollFd
	silent bool
}

func (l *socketPeek) init(sock net.Conn) {
	s, ok := sock.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	l.raw = raw
	l.look = func(fd uintptr) { // made once, so that quiet allocates nothing
		l.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		n, err := unix.Poll(l.poll[:], 0)
		l.silent = n == 0 && err == nil
	}
}

// quiet reports whether there is nothing to read: no data, no end, no error.
func (l *socketPeek) quiet() bool {
	if l.raw == nil {
		return true
	}
	l.silent = false
	if err := l.raw.Control(l.look); err != nil {
		return false
	}
	return l.silent
}
