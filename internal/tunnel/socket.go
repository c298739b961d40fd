package tunnel

import (
	"context"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// ListenUDP returns a function that binds a UDP socket, for [Config.Listen] and
// [Config.ListenPacket].
func ListenUDP(addr string) func() (net.PacketConn, error) {
	return func() (net.PacketConn, error) {
		return new(net.ListenConfig).ListenPacket(context.Background(), "udp", addr)
	}
}

// openMain binds the main socket.
func (n *Node) openMain() (net.PacketConn, error) {
	conn, err := n.cfg.Listen()
	if err != nil {
		return nil, fmt.Errorf("bind the tunnel's UDP socket: %w", err)
	}
	if size, ok := growReceiveBuffer(conn); ok && size < receiveBuffer {
		n.log.Warn("the UDP receive buffer is small: bursts will be lost and tunnels slow; raise it with sysctl -w net.core.rmem_max=7500000",
			"bytes", size, "wanted", receiveBuffer)
	}
	return conn, nil
}

// growReceiveBuffer asks for a receive buffer of receiveBuffer bytes and returns
// what the kernel gives; ok is false for connections that are no kernel sockets.
func growReceiveBuffer(conn net.PacketConn) (size int, ok bool) {
	c, ok := conn.(interface {
		SetReadBuffer(bytes int) error
		SyscallConn() (syscall.RawConn, error)
	})
	if !ok {
		return 0, false
	}
	_ = c.SetReadBuffer(receiveBuffer) // what came of it is read back below
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	var optErr error
	err = raw.Control(func(fd uintptr) {
		// With the privilege for it, past net.core.rmem_max.
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
		size, optErr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
	})
	return size, err == nil && optErr == nil
}
