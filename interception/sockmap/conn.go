package sockmap

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/interception/bpf"
)

// Conn is the sidecar's end of an accelerated connection. It tells the hooks how much
// of what TCP carried has been read. Like any net.Conn it may be read by one goroutine
// while another writes. It is never spliced: it has no ReadFrom and no WriteTo, and
// whoever uses its descriptor must only peek at it.
type Conn struct {
	net.Conn
	tcp *net.TCPConn
	h   *Handle

	// Used by the reading goroutine only.
	program bpf.KernelPair // the connection as the program's end sees it
	born    uint64         // of its flow
	read    uint64         // bytes
	looks   int            // left until we give up
}

// catchUpLooks bounds how often a connection is looked at that does not catch up
// with its program: one that always has more to say gains little.
const catchUpLooks = 8

// Read reads. Once everything that the program sent by TCP has been read, it tells the
// hooks so.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.looks > 0 {
		c.read += uint64(n)
		if n < len(b) { // there was no more
			c.catchUp()
		}
	}
	return n, err
}

func (c *Conn) catchUp() {
	c.looks--
	var flow bpf.KernelFlow
	switch err := c.h.flows.Lookup(c.program, &flow); {
	case err != nil || flow.Born != c.born || c.read > flow.Sent:
		c.looks = 0 // closed; or bytes came that the hooks have not seen
	case c.received() > c.read: // more than that has come since
	case c.read == flow.Sent:
		c.looks = 0
		// If the map is full it goes on by TCP.
		_ = c.h.caughtUp.Put(c.program, bpf.KernelCaught{Born: c.born, Read: c.read})
		if c.h.flows.Lookup(c.program, &flow) != nil { // gone meanwhile: nobody takes it out
			_ = c.h.caughtUp.Delete(c.program)
		}
	}
}

// received is how many bytes have come by TCP.
func (c *Conn) received() (n uint64) {
	_ = bpf.Control(c.tcp, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n = info.Bytes_received
		}
		return err
	})
	return n
}

// CloseWrite ends our direction.
func (c *Conn) CloseWrite() error { return c.tcp.CloseWrite() }

// SetLinger is that of [net.TCPConn].
func (c *Conn) SetLinger(sec int) error { return c.tcp.SetLinger(sec) }

// SyscallConn is that of [net.TCPConn].
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.tcp.SyscallConn() }
