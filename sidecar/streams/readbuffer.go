package streams

import (
	"errors"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

var largeReads = sync.Pool{New: func() any { b := make([]byte, largeRead); return &b }}

// readBuffer is what a connection is read into. It holds memory while something comes: else
// none on a connection that can be asked whether it is readable, and little on others. It is the
// reader's.
type readBuffer struct {
	buf    []byte // small, or pooled; nil: none
	filled int    // buf[:filled] was read and not taken yet
	small  []byte // smallRead bytes, of a connection that cannot be asked
	pooled *[]byte
	busy   bool // something has come since the tick found that nothing does
	await  awaiter
}

// take takes n bytes off the start of what was read.
func (b *readBuffer) take(n int) { b.filled = copy(b.buf, b.buf[n:b.filled]) }

// more reads behind what is left in buf.
func (b *readBuffer) more(nc net.Conn) (int, error) {
	if err := b.room(nc); err != nil {
		return 0, err
	}
	n, err := nc.Read(b.buf[b.filled:])
	b.filled += n
	b.busy = b.busy || n > 0
	return n, err
}

// room sees that there is a buffer for what comes next.
func (b *readBuffer) room(nc net.Conn) error {
	if b.filled == 0 && !b.busy {
		b.idle()
		tcp, ok := nc.(*net.TCPConn)
		if !ok {
			if b.small == nil {
				b.small = make([]byte, smallRead)
			}
			b.buf = b.small
			return nil
		}
		if err := b.await.readable(tcp); err != nil {
			return err
		}
	}
	if b.pooled == nil {
		b.pooled = largeReads.Get().(*[]byte)
		copy(*b.pooled, b.buf[:b.filled])
		b.buf = *b.pooled
	}
	return nil
}

// idle gives the buffer back.
func (b *readBuffer) idle() {
	b.buf = nil
	if b.pooled != nil {
		largeReads.Put(b.pooled)
		b.pooled = nil
	}
}

// awaiter waits for a socket without a buffer, and without an allocation each time.
type awaiter struct {
	raw  syscall.RawConn
	look func(fd uintptr) bool
	poll [1]unix.PollFd
}

// readable waits until conn has something to read, its end included, or until its read
// deadline.
func (a *awaiter) readable(conn *net.TCPConn) error {
	if a.raw == nil {
		raw, err := conn.SyscallConn()
		if err != nil {
			return err
		}
		a.raw = raw
		a.look = func(fd uintptr) bool {
			a.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
			n, err := unix.Poll(a.poll[:], 0)
			return n != 0 && !errors.Is(err, unix.EINTR)
		}
	}
	return a.raw.Read(a.look)
}
