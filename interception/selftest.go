package interception

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// selfTestLimit bounds the self-test, which takes some milliseconds.
const selfTestLimit = 5 * time.Second

// TryAcceleration switches acceleration on if this kernel moves bytes from socket to
// socket as TCP would: in order when the way changes, with ends and resets, counted
// by FIONREAD, and no more of them than a reader that stands still may be owed. With
// an error it is switched off, as it is until this is called.
//
// Whoever calls it vouches for the program: that it does not read its sockets by
// splice(2), IORING_OP_SPLICE or TCP_ZEROCOPY_RECEIVE and does not set TCP_ULP,
// none of which sees what came past TCP; and that it reads without blocking, see the
// package comment.
func (i *Interception) TryAcceleration() error {
	err := i.selfTest()
	if err == nil {
		return i.switchAcceleration(true)
	}
	return errors.Join(fmt.Errorf("acceleration does not work on this kernel: %w", err), i.switchAcceleration(false))
}

// StopAcceleration switches it off: connections that are made from now on are
// TCP's alone.
func (i *Interception) StopAcceleration() error { return i.switchAcceleration(false) }

func (i *Interception) selfTest() error {
	for _, step := range []struct {
		what string
		try  func(a, b *net.TCPConn) error
	}{
		{"small messages", i.tryMessages},
		{"a reader that stands still", tryBacklog},
		{"half-close", tryHalfClose},
		{"reset", tryReset},
	} {
		if err := i.between(step.try); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// between runs try with both ends of an accelerated connection.
func (i *Interception) between(try func(a, b *net.TCPConn) error) (err error) {
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
	defer func() { err = errors.Join(err, i.forget(here)) }()
	for _, c := range []*net.TCPConn{a, b} {
		if err := errors.Join(c.SetDeadline(time.Now().Add(selfTestLimit)), i.join(pairOf(c), c)); err != nil {
			return err
		}
	}
	return try(a, b)
}

func (i *Interception) tryMessages(a, b *net.TCPConn) error {
	for range 3 {
		for _, way := range [][2]*net.TCPConn{{a, b}, {b, a}} {
			if err := tryMessage(way[0], way[1]); err != nil {
				return err
			}
		}
	}
	var flow bpfFlow
	if err := i.flows.Lookup(pairOf(a), &flow); err != nil {
		return err
	}
	if flow.ByTcp != 0 || flow.Sent == 0 {
		return errors.New("they do not go past TCP")
	}
	return nil
}

func tryMessage(from, to *net.TCPConn) error {
	message := []byte("a message of the self-test")
	if _, err := from.Write(message); err != nil {
		return err
	}
	const fionread = 0x541b
	if err := control(to, func(fd int) error {
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

// tryBacklog writes until nothing more is taken, far below what is too much, then
// reads it all: first what came past TCP, then what came by TCP.
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

// pattern writes bytes that is another one at every offset below 2^32.
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
