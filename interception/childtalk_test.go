package interception

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

func childTalk(args []string) error {
	var n [3]int
	for k := range n {
		var err error
		if n[k], err = strconv.Atoi(args[1+k]); err != nil {
			return err
		}
	}
	var group errgroup.Group
	for c := range n[0] {
		group.Go(func() error { return talk(args[0], uint64(c), n[1], n[2], args[4], args[5:]) })
	}
	return report(seen{}, group.Wait())
}

func talk(address string, seed uint64, messages, largest int, way string, source []string) error {
	var d net.Dialer
	if len(source) > 0 {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source[0]))
		d.Control = func(_, _ string, raw syscall.RawConn) error { // the last connection may still be ending
			return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		}
	}
	c, err := d.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	said, heard := rand.NewChaCha8([32]byte{byte(seed)}), rand.NewChaCha8([32]byte{byte(seed)})
	sizes := rand.New(rand.NewPCG(seed, 1))
	total := 0
	hear := func(size int) error {
		want, got := make([]byte, size), make([]byte, size)
		_, _ = heard.Read(want)
		if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
			return fmt.Errorf("%s: an answer of %d bytes: %d came, %v, equal %v", way, size, n, err, bytes.Equal(got, want))
		}
		return nil
	}
	var all []int
	for range messages {
		size := 1 + sizes.IntN(largest)
		all, total = append(all, size), total+size
	}
	var group errgroup.Group
	if way == "stream" {
		group.Go(func() error { return hear(total) })
	}
	for _, size := range all {
		message := make([]byte, size)
		_, _ = said.Read(message)
		if _, err := c.Write(message); err != nil {
			return err
		}
		if way == "turns" {
			if err := hear(size); err != nil {
				return err
			}
		}
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	if way == "last" {
		if err := hear(total); err != nil {
			return err
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if n, err := c.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		return fmt.Errorf("%s: after all answers: %d, %v", way, n, err)
	}
	return nil
}

// childEcho is a server that says what it hears.
func childEcho(args []string) error {
	l, err := listenTCP(args[0])
	if err != nil {
		return err
	}
	return serveEach(l, func(c *net.TCPConn) { echo(c) })
}

// echo says what it hears until its end, keeping what the other does not take yet.
func echo(c halfCloser) {
	defer c.Close()
	heard := make(chan []byte, 1<<16)
	go func() {
		defer close(heard)
		for {
			b := make([]byte, 32<<10)
			n, err := c.Read(b)
			if n > 0 {
				heard <- b[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	for b := range heard {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
	_ = c.CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, _ = c.Read(make([]byte, 1)) // until the other has closed, too
}

type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// childEarly sends while it connects (TCP Fast Open), and once more for a line of its
// input; it prints a line after each.
