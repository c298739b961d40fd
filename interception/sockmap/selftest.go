package sockmap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/interception/bpf"
)

// selfTestLimit bounds the self-test, which takes some milliseconds.
const selfTestLimit = 5 * time.Second

// Try switches acceleration on if this kernel moves bytes from socket to socket as TCP
// would: in order when the way changes, with half-close and reset, counted by FIONREAD,
// and with a bound for a reader that does not read. After an error it is off, as it is
// before the first call.
//
// The caller vouches for the program: it does not read its sockets by splice(2),
// IORING_OP_SPLICE or TCP_ZEROCOPY_RECEIVE and does not set TCP_ULP, since none of
// these sees redirected bytes; and it reads without blocking, see the package comment.
func (h *Handle) Try() error {
	err := h.selfTest()
	if err == nil {
		return h.switchTo(true)
	}
	return errors.Join(fmt.Errorf("acceleration does not work on this kernel: %w", err), h.switchTo(false))
}

// Stop switches acceleration off: connections that are made from now on use TCP only.
func (h *Handle) Stop() error { return h.switchTo(false) }

func (h *Handle) selfTest() error {
	for _, step := range []struct {
		what string
		try  func(a, b *net.TCPConn) error
	}{
		{"small messages", h.tryMessages},
		{"a reader that does not read", tryBacklog},
		{"half-close", tryHalfClose},
		{"reset", tryReset},
	} {
		if err := h.between(step.try); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// between runs try with both ends of an accelerated connection.
func (h *Handle) between(try func(a, b *net.TCPConn) error) (err error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	if err := l.SetDeadline(time.Now().Add(selfTestLimit)); err != nil {
		return err
	}
	a, err := net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }() // a second time, after some tries
	b, err := l.AcceptTCP()
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	here := pairOf(a)
	defer func() { err = errors.Join(err, h.forget(here)) }()
	for _, c := range []*net.TCPConn{a, b} {
		if err := errors.Join(c.SetDeadline(time.Now().Add(selfTestLimit)), h.join(pairOf(c), c)); err != nil {
			return err
		}
	}
	return try(a, b)
}

func (h *Handle) tryMessages(a, b *net.TCPConn) error {
	for range 3 {
		for _, way := range [][2]*net.TCPConn{{a, b}, {b, a}} {
			if err := tryMessage(way[0], way[1]); err != nil {
				return err
			}
		}
	}
	var flow bpf.KernelFlow
	if err := h.flows.Lookup(pairOf(a), &flow); err != nil {
		return err
	}
	if flow.ByTcp != 0 || flow.Sent == 0 {
		return errors.New("they are not redirected")
	}
	return nil
}

func tryMessage(from, to *net.TCPConn) error {
	message := []byte("a message of the self-test")
	if _, err := from.Write(message); err != nil {
		return err
	}
	const fionread = 0x541b
	if err := bpf.Control(to, func(fd int) error {
		if n, err := unix.IoctlGetInt(fd, fionread); err != nil || n != len(message) {
			return errors.Join(fmt.Errorf("FIONREAD says %d bytes where %d are: the kernel is one without 'bpf, sockmap: Fix FIONREAD'", n, len(message)), err)
		}
		peeked := make([]byte, len(message))
		if _, _, err := unix.Recvfrom(fd, peeked, unix.MSG_PEEK|unix.MSG_DONTWAIT); err != nil || !bytes.Equal(peeked, message) {
			return errors.Join(fmt.Errorf("peeked %q", peeked), err)
		}
		return nil
	}); err != nil {
		return err
	}
	got := make([]byte, len(message))
	if _, err := io.ReadFull(to, got); err != nil || !bytes.Equal(got, message) {
		return errors.Join(fmt.Errorf("read %q", got), err)
	}
	return nil
}

// tryBacklog writes until the kernel takes no more, which must be long before tooMuch,
// then reads everything: first the redirected bytes, then those that TCP carried.
func tryBacklog(a, b *net.TCPConn) error {
	const tooMuch = 64 << 20
	if err := errors.Join(a.SetWriteBuffer(64<<10), b.SetReadBuffer(64<<10)); err != nil {
		return err
	}
	sent := 0
	raw, err := a.SyscallConn()
	if err != nil {
		return err
	}
	block := make([]byte, 16<<10)
	var full error
	err = raw.Write(func(fd uintptr) bool {
		for full == nil && sent < tooMuch {
			pattern(block, sent)
			var n int
			n, full = unix.Write(int(fd), block)
			sent += max(n, 0)
		}
		return true
	})
	if err = errors.Join(err, a.CloseWrite()); err != nil {
		return err
	}
	if !errors.Is(full, syscall.EAGAIN) {
		return errors.Join(fmt.Errorf("%d bytes are queued and none read", sent), full)
	}
	for read := 0; ; {
		want, got := make([]byte, 16<<10), make([]byte, 16<<10)
		n, err := b.Read(got)
		pattern(want[:n], read)
		if !bytes.Equal(got[:n], want[:n]) {
			return fmt.Errorf("bytes are lost or out of order after %d", read)
		}
		read += n
		if err != nil || read > sent {
			if !errors.Is(err, io.EOF) || read != sent {
				return errors.Join(fmt.Errorf("%d bytes were sent and %d arrived", sent, read), err)
			}
			return nil
		}
	}
}

// pattern fills b with bytes that tell their offset in the stream, below 2^32.
func pattern(b []byte, offset int) {
	for n := range b {
		at := offset + n
		b[n] = byte(at >> (8 * (at % 4)))
	}
}

func tryHalfClose(a, b *net.TCPConn) error {
	if _, err := a.Write([]byte("question")); err != nil {
		return err
	}
	if err := a.CloseWrite(); err != nil {
		return err
	}
	if got, err := io.ReadAll(b); err != nil || string(got) != "question" {
		return errors.Join(fmt.Errorf("before the end came %q", got), err)
	}
	if _, err := b.Write([]byte("answer")); err != nil {
		return err
	}
	if err := b.Close(); err != nil {
		return err
	}
	if got, err := io.ReadAll(a); err != nil || string(got) != "answer" {
		return errors.Join(fmt.Errorf("after the end came %q", got), err)
	}
	return nil
}

func tryReset(a, b *net.TCPConn) error {
	if err := errors.Join(b.SetLinger(0), b.Close()); err != nil {
		return err
	}
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		return errors.Join(errors.New("the other end does not read it"), err)
	}
	return nil
}
