package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// client keeps connections to one address and sends each request once: what
// net/http repeats by itself would look as if the mesh did. Safe for concurrent use.
type client struct {
	addr string // host:port

	mu   sync.Mutex
	idle []*clientConn
}

type clientConn struct {
	net.Conn
	br   *bufio.Reader
	free time.Time // when it was put back
}

// answer is a whole answer, or as much as came.
type answer struct {
	begun  bool // its first byte came
	status int
	header http.Header
	body   []byte
}

// do sends a request and reads the answer. Every byte of the answer may take
// patience.
func (c *client) do(req *http.Request) (a answer, err error) {
	conn, err := c.get()
	if err != nil {
		return a, err
	}
	written := make(chan error, 1)
	go func() {
		_ = conn.SetWriteDeadline(time.Now().Add(patience))
		written <- req.Write(conn)
	}()
	whole, err := conn.read(req, &a)
	if whole && err == nil && req.ContentLength == 0 { // all of it was read: the writer is done, or about to say so
		written <- <-written
	}
	select {
	case writeErr := <-written:
		if whole && writeErr == nil && err == nil {
			c.put(conn)
			return a, nil
		}
		conn.Close()
		if !a.begun && writeErr != nil { // the cause of what was read, or not
			err = errors.Join(err, writeErr)
		}
		return a, err
	default: // the answer came before the request was sent
		conn.Close()
		<-written //nolint:errcheck // the close has ended it
		return a, err
	}
}

// read reads an answer; whole says that another may follow.
func (c *clientConn) read(req *http.Request, a *answer) (whole bool, err error) {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.br.Peek(1); err != nil {
		return false, err
	}
	a.begun = true
	resp, err := http.ReadResponse(c.br, req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	for b := make([]byte, 4096); ; {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		n, err := resp.Body.Read(b)
		a.body = append(a.body, b[:n]...)
		if errors.Is(err, io.EOF) {
			return !resp.Close, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// get returns an idle connection that its peer has not ended, or a new one.
func (c *client) get() (*clientConn, error) {
	for {
		c.mu.Lock()
		n := len(c.idle)
		if n == 0 {
			c.mu.Unlock()
			break
		}
		conn := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		if conn.open() {
			return conn, nil
		}
		conn.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp4", c.addr)
	if err != nil {
		return nil, err
	}
	return &clientConn{Conn: conn, br: bufio.NewReader(conn)}, nil
}

// put takes a connection back, and closes those that nobody has needed for long: the
// longest idle ones are in front.
func (c *client) put(conn *clientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.free = time.Now()
	c.idle = append(c.idle, conn)
	for time.Since(c.idle[0].free) > idleLimit {
		c.idle[0].Close()
		c.idle = c.idle[1:]
	}
}

// open reports whether the peer has neither ended the connection nor said anything.
func (c *clientConn) open() bool {
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		open = errors.Is(err, syscall.EAGAIN)
	})
	return err == nil && open
}

// silent reports whether an error is that nothing came in time.
func silent(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT)
}
