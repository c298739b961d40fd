// Package socket reads and writes TCP connections in fewer steps than net does, for those
// on which many small messages come and go:
//
//   - [Socket.Ask] writes a question and waits for the answer without asking the kernel first,
//     which would say that it is not there yet.
//   - Go's scheduler is not told of each system call, as it has to be of one that may last: on a
//     socket that does not block none does.
//
// All else is the connection's own: its deadlines hold, and to close it ends what waits here.
package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// Socket is a TCP connection. One goroutine may read or ask while another writes. Nothing is
// allocated per call.
type Socket struct {
	conn *net.TCPConn
	raw  syscall.RawConn
	in   call // of who reads or asks
	out  call // of who writes

	// Of who asks.
	question []byte
	sent     int

	read, ask, write func(fd uintptr) (over bool) // made once
}

// call is one read or write that may have to wait.
type call struct {
	buf   []byte
	n     int
	errno syscall.Errno
}

// Of returns the socket of conn; nil when that is no TCP connection, but something over one.
func Of(conn net.Conn) *Socket {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	s := &Socket{conn: tcp, raw: raw}
	s.read, s.ask, s.write = s.tryRead, s.tryAsk, s.tryWrite
	return s
}

// Read reads as [net.Conn] does.
func (s *Socket) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s.in = call{buf: b}
	return s.in.n, s.heard(s.raw.Read(s.read))
}

// Ask writes question, waits, and reads the beginning of the answer. sent is how much of the
// question has left; when it is not all, nothing was waited for: without an error the socket's
// buffer is full, and the rest is to be written by Write, and the answer read by Read.
//
// What came before the question does not end the wait, but more of it does, or the deadline for
// reading. So whoever asks has read all that was there, as far as it matters to him.
func (s *Socket) Ask(question, answer []byte) (sent, n int, err error) {
	s.in = call{buf: answer}
	s.question, s.sent = question, -1
	err = s.raw.Read(s.ask)
	s.question = nil
	switch sent = max(s.sent, 0); {
	case sent == len(question):
		return sent, s.in.n, s.heard(err)
	case err == nil && s.in.errno != 0:
		err = s.fault("write", s.in.errno)
	}
	return sent, 0, rename("write", err)
}

// Write writes as [net.Conn] does.
func (s *Socket) Write(b []byte) (int, error) {
	s.out = call{buf: b}
	err := s.raw.Write(s.write)
	s.out.buf = nil
	if err == nil && s.out.errno != 0 {
		err = s.fault("write", s.out.errno)
	}
	return s.out.n, rename("write", err)
}

// heard returns what a read has ended with.
func (s *Socket) heard(err error) error {
	s.in.buf = nil
	switch {
	case err != nil:
		return rename("read", err)
	case s.in.errno != 0:
		return s.fault("read", s.in.errno)
	case s.in.n == 0:
		return io.EOF
	}
	return nil
}

func (s *Socket) tryRead(fd uintptr) bool {
	s.in.n, s.in.errno = now(syscall.SYS_READ, fd, s.in.buf)
	return s.in.errno != syscall.EAGAIN
}

// tryAsk is called when nobody can have answered yet, and then when there is something to read.
func (s *Socket) tryAsk(fd uintptr) bool {
	if s.sent >= 0 {
		return s.tryRead(fd)
	}
	s.sent, s.in.errno = now(syscall.SYS_WRITE, fd, s.question)
	if s.in.errno == syscall.EAGAIN {
		s.in.errno = 0
	}
	return s.sent < len(s.question)
}

func (s *Socket) tryWrite(fd uintptr) bool {
	for s.out.n < len(s.out.buf) {
		n, errno := now(syscall.SYS_WRITE, fd, s.out.buf[s.out.n:])
		s.out.n += n
		if s.out.errno = errno; errno != 0 {
			if errno == syscall.EAGAIN {
				s.out.errno = 0
				return false
			}
			return true
		}
	}
	return true
}

// TryRead reads what there is at the socket fd; syscall.EAGAIN: nothing.
func TryRead(fd uintptr, b []byte) (int, error) {
	n, errno := now(syscall.SYS_READ, fd, b)
	if errno != 0 {
		return 0, errno
	}
	return n, nil
}

// now makes a call that does not wait: read or write.
func now(what, fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(what, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case syscall.EINTR:
		case 0:
			return int(n), 0
		default:
			return 0, errno
		}
	}
}

// fault is an error of the kernel in the words of net.
func (s *Socket) fault(op string, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: "tcp", Source: s.conn.LocalAddr(), Addr: s.conn.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}

// rename gives an error of a [syscall.RawConn] the name of what was done.
func rename(op string, err error) error {
	if err == nil {
		return nil // before there is an allocation
	}
	if at := (*net.OpError)(nil); errors.As(err, &at) {
		at.Op = op
	}
	return err
}
