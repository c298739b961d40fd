package tunnel

import (
	"context"
	"errors"
	"net"
)

// errNotPacket says that a packet could be taken for QUIC.
var errNotPacket = errors.New("the two upper bits of a packet's first byte must be zero")

// ReadPacket reads a packet that is not QUIC from the main socket into b; what
// does not fit is dropped. Only one goroutine may read. It waits for Run to have
// bound the socket, and fails with [net.ErrClosed] when Run has ended. Up to 32
// packets wait for it, more are dropped.
func (n *Node) ReadPacket(ctx context.Context, b []byte) (int, net.Addr, error) {
	select {
	case <-n.ready:
	case <-n.ended:
		return 0, nil, net.ErrClosed
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	}
	size, addr, err := n.transport.ReadNonQUICPacket(ctx, b)
	if err != nil && ctx.Err() == nil {
		err = net.ErrClosed
	}
	if err == nil {
		n.targets.heard(addr)
	}
	return size, addr, err
}

// WritePacket sends a packet that is not QUIC from the main socket: the two
// upper bits of its first byte must be zero.
func (n *Node) WritePacket(b []byte, to net.Addr) (int, error) {
	if len(b) == 0 || b[0]&0xc0 != 0 {
		return 0, errNotPacket
	}
	select {
	case <-n.ready:
		return n.transport.WriteTo(b, to)
	default:
		return 0, net.ErrClosed
	}
}

// LocalAddr returns the main socket's address, nil before it is bound.
func (n *Node) LocalAddr() net.Addr {
	select {
	case <-n.ready:
		return n.main.LocalAddr()
	default:
		return nil
	}
}
