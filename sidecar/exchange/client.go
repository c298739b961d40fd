package exchange

import (
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/internal/drain"
	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// Client is one accepted connection. It belongs to one goroutine, but for End; an
// upload reads from it as well while it lasts.
type Client struct {
	relay.Conn                // what is read and written: the TLS connection or the accepted one
	Accepted   net.Conn       // below TLS
	Peer       string         // the SPIFFE ID that was proved, empty without TLS
	Caller     *policy.Caller // what Admission is asked about; may be nil without one
	Open       *drain.Entry   // says whether it waits for a request

	// Stranger is what the connection counts as until its peer has said who it is;
	// nil: that does not matter.
	Stranger *limit.Stranger

	// Rest is what is left of serving it, when that needs no goroutine of its own any more:
	// who had it served calls Rest then. nil: it has been served, also when over is called. See
	// [Client.Finish].
	Rest streams.Rest

	mu   sync.Mutex
	host aborter // that an exchange waits for, or who relays; nil without: a forced end must wake its reader
	left bool    // it has gone while an exchange ran, and says so only once
}

// aborter is what a client's forced end ends, too.
type aborter interface{ Abort() error }

// SetReadDeadline sets the accepted connection's, so that it holds below all wraps.
func (c *Client) SetReadDeadline(t time.Time) error { return c.Accepted.SetReadDeadline(t) }

// Abort closes the connection such that the client sees an error.
func (c *Client) Abort() { relay.Abort(c.Accepted) }

// End aborts the connection and the exchange that runs on it. Any goroutine may
// call it.
func (c *Client) End(error) {
	c.Abort()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leftLocked()
}

// reset makes c the client of a stream of shared.
func (c *Client) reset(stream relay.Conn, shared *Client) {
	c.Conn, c.Accepted, c.Peer, c.Caller, c.Open, c.Stranger = stream, stream, shared.Peer, shared.Caller, nil, nil
	c.mu.Lock()
	defer c.mu.Unlock()
	c.host, c.left = nil, false
}

// leftLocked ends the exchange that runs: its client is not there any more.
func (c *Client) leftLocked() {
	c.left = true
	if c.host != nil {
		_ = c.host.Abort()
	}
}

// hasLeft reports whether the client was seen to leave.
func (c *Client) hasLeft() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left
}

// Finish calls f when c has been served: now, unless there is a rest. f may leave a rest anew.
func (c *Client) Finish(f func()) {
	rest := c.Rest
	if rest == nil {
		f()
		return
	}
	c.Rest = func(over func()) {
		rest(func() {
			if f(); c.Rest != nil { // of f
				c.Rest(over)
				return
			}
			over()
		})
	}
}

// PeerAddr is where the client is, for the log.
func (c *Client) PeerAddr() string { return c.Accepted.RemoteAddr().String() }

// setHost says what an exchange waits for from now on, nil: for nothing. It reports
// whether the client has not left.
func (c *Client) setHost(h aborter) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.host = h
	return !c.left
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

// Gone reports whether the client has closed or reset its connection. It looks and
// does not wait. Bytes that wait to be read hide what is behind them. An end of what
// the client sends is none of what it reads: one that half-closed gets its answer,
// however long that takes. A sidecar never half-closes.
func (c *Client) Gone() bool {
	tcp, ok := c.Accepted.(*net.TCPConn)
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
	return err != nil || closed || ended && (c.Peer != "" || orphaned(tcp))
}
