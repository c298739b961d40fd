package tunnel

import (
	"net"
	"sync"
)

// listener is a [net.Listener] over all tunnels.
type listener struct {
	node   *Node
	once   sync.Once
	closed chan struct{}
}

// Listener accepts every stream that any peer opened, whichever end dialled the
// connection. Its Accept returns a [*Stream]. It ends when it is closed and when Run
// ends; of several listeners each stream goes to one.
func (n *Node) Listener() net.Listener {
	return &listener{node: n, closed: make(chan struct{})}
}

// Accept waits for the next stream.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case s := <-l.node.accepted:
		return s, nil
	case <-l.closed:
	case <-l.node.ended:
	}
	return nil, net.ErrClosed
}

// Close ends Accept and no stream; what arrives waits for another listener.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr returns the main socket's address, an empty one before it is bound.
func (l *listener) Addr() net.Addr {
	if a := l.node.LocalAddr(); a != nil {
		return a
	}
	return &net.UDPAddr{}
}
