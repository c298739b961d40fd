package interception

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Conn is the sidecar's end of an accelerated connection. It shows the hooks how
// much of what came by TCP has been read. Like any net.Conn it may be read by one
// goroutine while another writes. It is never spliced: it has no ReadFrom and no
// WriteTo, and who reads its descriptor by other means than Read must only peek.
type Conn struct {
	net.Conn
	tcp *net.TCPConn
	i   *Interception

	// Of the reading goroutine.
	program bpfPair // the connection as the program's end sees it
	born    uint64  // of its flow
	read    uint64  // bytes
	looks   int     // left until we give up
}

// catchUpLooks bounds how often a connection is looked at that does not catch up
// with its program: one that always has more to say gains little.
const catchUpLooks = 8

// Accelerate has the bytes of a connection between the program and the sidecar go
// past TCP, from socket to socket, where [Interception.TryAcceleration] has found
// that to work and the hooks have prepared the program's end. It returns the
// connection to use from now on: c itself when it stays as it is. Nothing may have
// been read from or written to c.
func (i *Interception) Accelerate(c *net.TCPConn) (*Conn, bool) {
	if !i.accelerating.Load() {
		return nil, false
	}
	here := pairOf(c)
	program := bpfPair{Local: here.Remote, Remote: here.Local}
	var flow bpfFlow
	if i.flows.Lookup(program, &flow) != nil {
		return nil, false // made before we were there, or in another way
	}
	born := flow.Born
	if i.join(here, c) != nil {
		return nil, false // the maps are full, or the program has gone
	}
	if i.flows.Lookup(program, &flow) != nil { // gone meanwhile: nobody takes ours out
		_ = i.flows.Delete(here)
		return nil, false
	}
	return &Conn{Conn: c, tcp: c, i: i, program: program, born: born, looks: catchUpLooks}, true
}

// join takes an end into the map of sockets and gives it a flow, in this order: a
// flow means that there is a socket.
func (i *Interception) join(here bpfPair, c *net.TCPConn) error {
	err := control(c, func(fd int) error { return i.accelerated.Put(here, uint64(fd)) })
	if err != nil {
		return err
	}
	return i.flows.Put(here, bpfFlow{})
}

func pairOf(c *net.TCPConn) bpfPair {
	return bpfPair{
		Local:  endpointOf(c.LocalAddr().(*net.TCPAddr).AddrPort()),
		Remote: endpointOf(c.RemoteAddr().(*net.TCPAddr).AddrPort()),
	}
}

// Read reads, and tells the hooks once when all has been read that the program sent
// by TCP.
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
	var flow bpfFlow
	switch err := c.i.flows.Lookup(c.program, &flow); {
	case err != nil || flow.Born != c.born || c.read > flow.Sent:
		c.looks = 0 // closed; or bytes came that the hooks have not seen
	case c.received() > c.read: // more than that has come since
	case c.read == flow.Sent:
		c.looks = 0
		// If the map is full it goes on by TCP.
		_ = c.i.caughtUp.Put(c.program, bpfCaught{Born: c.born, Read: c.read})
		if c.i.flows.Lookup(c.program, &flow) != nil { // gone meanwhile: nobody takes it out
			_ = c.i.caughtUp.Delete(c.program)
		}
	}
}

// received is how many bytes have come by TCP.
func (c *Conn) received() (n uint64) {
	_ = control(c.tcp, func(fd int) error {
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

// forget takes the flows of a connection out which no program's socket will.
func (i *Interception) forget(here bpfPair) error {
	there := bpfPair{Local: here.Remote, Remote: here.Local}
	var faults []error
	for _, err := range []error{i.flows.Delete(here), i.flows.Delete(there), i.caughtUp.Delete(here), i.caughtUp.Delete(there)} {
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// Accelerating reports whether connections that are made now are accelerated.
func (i *Interception) Accelerating() bool { return i.accelerating.Load() }

// switchAcceleration says whether the hooks prepare the program's sockets.
func (i *Interception) switchAcceleration(on bool) error {
	var value uint32
	if on {
		value = 1
	}
	i.accelerating.Store(on)
	if err := i.acceleration.Put(uint32(0), value); err != nil {
		return fmt.Errorf("switch acceleration: %w", err)
	}
	return nil
}
