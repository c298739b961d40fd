package exchange

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/epoll"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/internal/socket"
)

// idleConn is what a connection holds between two requests. A plain one holds no buffers, and
// after Server.Park no goroutine: it waits in Server.Waiting with others. One with TLS holds its
// buffers for as long, and a goroutine.
type idleConn struct {
	socket *net.TCPConn // of a plain one, once a request was awaited
	raw    syscall.RawConn
	look   func(fd uintptr) bool
	err    error // of the read

	deadline time.Time // for reading, as awaitFor has set it last; zero: somebody else has since

	place  epoll.Place
	until  time.Time // when the wait ends
	parked bool      // nobody's goroutine waits
	over   func()    // what ends the client's rest
}

// awaitRequest waits for the first bytes of a request, and reports whether there are any. When
// it is time to wait without a goroutine it does not, and has set idle.parked.
func (c *clientConn) awaitRequest() bool {
	if c.idle.socket == nil {
		c.idle.socket = relay.Socket(relay.Source(c.client.Conn))
	}
	open, now := c.client.Open, time.Now()
	defer open.Busy()
	wait := c.s.Park
	if c.idle.parked { // and woken: there is something, if only an end, or a drain begins
		if c.idle.parked = false; !now.Before(c.idle.until) {
			return false
		}
		wait = headTimeout
	} else {
		patience := idleTimeout
		if c.refusal != nil {
			patience = refusedIdleTimeout
		}
		c.idle.until = now.Add(patience)
	}
	c.awaitFor(now, wait)
	n, err := c.readAwaited()
	if n > 0 {
		c.to = n
		return true
	}
	if !connect.IsTimeout(err) || c.s.Conns.Draining() {
		return false
	}
	if c.idle.socket != nil && c.s.Waiting != nil {
		c.idle.parked = true
		return false
	}
	return c.awaitWithoutBuffers()
}

// awaitFor sets the deadline of a wait. That of the last one stays when it ends soon enough, and not
// much too soon: to move a deadline costs a timer.
func (c *clientConn) awaitFor(now time.Time, wait time.Duration) {
	left := c.idle.deadline.Sub(now)
	if left <= wait && left > wait*3/4 && c.client.Open.StillWaiting(now) {
		return
	}
	c.idle.deadline = now.Add(wait)
	c.client.Open.Waiting(c.idle.deadline)
}

// readAwaited reads what there is, or comes. Buffers are held only for what is there when the
// connection is plain.
func (c *clientConn) readAwaited() (int, error) {
	if c.idle.socket == nil {
		return c.client.Read(c.in)
	}
	if c.idle.raw == nil {
		raw, err := c.idle.socket.SyscallConn()
		if err != nil {
			return 0, err
		}
		c.idle.raw, c.idle.look = raw, c.read
	}
	err := c.idle.raw.Read(c.idle.look)
	if c.buffers == nil { // who goes on has some
		c.buffers = takeBuffers()
	}
	if err == nil {
		err = c.idle.err
	}
	return c.to, err
}

// read reads from the socket fd, and reports whether there was something.
func (c *clientConn) read(fd uintptr) bool {
	if c.buffers == nil {
		c.buffers = takeBuffers()
	}
	n, err := socket.TryRead(fd, c.in)
	if errors.Is(err, unix.EAGAIN) {
		c.dropBuffers()
		return false
	}
	c.to, c.idle.err = n, os.NewSyscallError("read", err)
	return true
}

func (c *clientConn) dropBuffers() {
	c.release()
	c.buffers = nil
}

// awaitWithoutBuffers waits, for as long as a client may be idle, on the goroutine that it is
// called on.
func (c *clientConn) awaitWithoutBuffers() bool {
	c.dropBuffers()
	c.idle.deadline = time.Time{}
	c.client.Open.Waiting(c.idle.until)
	ok := readable(c.client.Accepted)
	c.buffers = takeBuffers()
	if !ok {
		return false
	}
	// Something is there, if only an end or part of a record.
	_ = c.client.SetReadDeadline(time.Now().Add(headTimeout))
	c.to, _ = c.client.Read(c.in)
	return c.to > 0
}

// park waits for the next request without a goroutine, as the client's rest. Then, when the
// connection ends, or when a drain begins, another goroutine goes on.
func (c *clientConn) park() {
	c.dropBuffers()
	waiting, conns := c.s.Waiting, c.s.Conns // c may be another goroutine's soon
	c.idle.deadline = time.Time{}
	c.client.Open.Waiting(c.idle.until)
	c.client.Open.OnDrain(c.wake)
	left := !c.client.setHost(c)
	if waiting.Wait(&c.idle.place, c.idle.socket, c.idle.until, c.goOn) != nil {
		c.goOn()
	} else if left || conns.Draining() {
		c.wake()
	}
}

// wake has a goroutine go on, if none does. Any goroutine may call it.
func (c *clientConn) wake() { c.s.Waiting.Wake(&c.idle.place) }

// Abort is called when the client was aborted: it must be noticed.
func (c *clientConn) Abort() error {
	c.wake()
	return nil
}

// goOn has a goroutine go on. It does not wait.
func (c *clientConn) goOn() {
	go func() {
		c.buffers = takeBuffers()
		if c.serve() {
			c.park()
			return
		}
		if c.leave(); c.http2 {
			c.s.ServeHTTP2(c.ctx, c.client, c.rewrite, c.refusal)
		}
		c.client.Rest = nil
		c.idle.over()
	}()
}
