package proxy

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/internal/drain"
)

// queue is a listener that leaves nobody behind: whoever waits in the kernel's queue
// when it is told to finish is still served. A program that sends and ends at once
// has its connection there.
type queue struct {
	*net.TCPListener
	conns     *drain.Set
	finishing atomic.Bool
	until     time.Time // set before finishing
}

// accepted is one connection. It counts in conns from the moment it is accepted, so
// that no drain begins between that and its service, until it is closed.
type accepted struct {
	*net.TCPConn
	client *client
}

// Close closes the connection.
func (a *accepted) Close() error {
	a.client.Open.Remove()
	return a.TCPConn.Close()
}

// Accept returns the next connection, an *accepted.
func (q *queue) Accept() (net.Conn, error) {
	for {
		conn, err := q.AcceptTCP()
		switch {
		case err == nil:
			c := &client{Conn: conn, Accepted: conn}
			if c.Open = q.conns.Add(c.End, conn.SetReadDeadline); c.Open != nil {
				return &accepted{conn, c}, nil
			}
			_ = conn.Close() // a drain has begun
		case !q.finishing.Load() || !errors.Is(err, os.ErrDeadlineExceeded):
			return nil, err
		case q.empty() || time.Now().After(q.until):
			_ = q.Close()
			return nil, net.ErrClosed
		}
		if q.finishing.Load() {
			q.again()
		}
	}
}

// SetDeadline is not for others while the queue is being finished.
func (q *queue) SetDeadline(t time.Time) error {
	if q.finishing.Load() {
		return nil
	}
	return q.TCPListener.SetDeadline(t)
}

// finish has Accept take what is in the kernel's queue and then close the listener.
// It is called once.
func (q *queue) finish() {
	q.until = time.Now().Add(maxFinish)
	q.finishing.Store(true)
	q.again()
}

// again has Accept look into the kernel's queue once more.
func (q *queue) again() {
	_ = q.TCPListener.SetDeadline(time.Now().Add(finishPause)) // a closed listener says so on Accept
}

// empty reports whether nobody waits in the kernel's queue.
func (q *queue) empty() bool {
	raw, err := q.SyscallConn()
	if err != nil {
		return true
	}
	empty := true
	_ = raw.Control(func(fd uintptr) { // closed: nobody waits
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		empty = err != nil || info.Unacked == 0 // of a listener: the length of its queue
	})
	return empty
}
