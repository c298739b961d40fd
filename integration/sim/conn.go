package sim

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// conn is one end of an in-memory connection with buffering, half-close and
// deadlines: TCP as far as a relay can tell. It blocks on channels and
// conditions only, so that virtual time can pass meanwhile.
type conn struct {
	name string
	in   *half // what the peer wrote
	out  *half // what this end writes
}

// maxBuffered is how much one direction holds before writers wait, in bytes.
const maxBuffered = 64 << 10

func newConnPair(client, server string) (*conn, *conn) {
	a, b := newHalf(), newHalf()
	return &conn{client, a, b}, &conn{server, b, a}
}

func (c *conn) Read(p []byte) (int, error)         { return c.in.read(p) }
func (c *conn) Write(p []byte) (int, error)        { return c.out.write(p) }
func (c *conn) CloseWrite() error                  { c.out.end(io.EOF); return nil }
func (c *conn) LocalAddr() net.Addr                { return addr(c.name) }
func (c *conn) RemoteAddr() net.Addr               { return addr(c.name + "-peer") }
func (c *conn) SetReadDeadline(t time.Time) error  { c.in.readBy.set(t); return nil }
func (c *conn) SetWriteDeadline(t time.Time) error { c.out.writeBy.set(t); return nil }

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) Close() error {
	c.out.end(io.EOF)
	c.in.end(net.ErrClosed)
	return nil
}

type addr string

func (a addr) Network() string { return "sim" }
func (a addr) String() string  { return string(a) }

// half is one direction.
type half struct {
	mu      sync.Mutex
	cond    *sync.Cond
	buf     []byte
	err     error // set once no more is written
	readBy  deadline
	writeBy deadline
}

// deadline wakes whoever waits on a half when it passes.
type deadline struct {
	h     *half
	at    time.Time
	timer *time.Timer
}

func newHalf() *half {
	h := &half{}
	h.cond = sync.NewCond(&h.mu)
	h.readBy.h, h.writeBy.h = h, h
	return h
}

func (d *deadline) set(t time.Time) {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	d.at = t
	if !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), d.h.wake)
	}
	d.h.cond.Broadcast()
}

func (d *deadline) passedLocked() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (h *half) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cond.Broadcast()
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case errors.Is(h.err, net.ErrClosed):
			return 0, h.err
		case len(h.buf) > 0:
			n := copy(p, h.buf)
			h.buf = h.buf[n:]
			h.cond.Broadcast()
			return n, nil
		case h.err != nil:
			return 0, h.err
		case h.readBy.passedLocked():
			return 0, os.ErrDeadlineExceeded
		}
		h.cond.Wait()
	}
}

func (h *half) write(p []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(p) > 0 {
		switch {
		case h.err != nil:
			return n, io.ErrClosedPipe
		case h.writeBy.passedLocked():
			return n, os.ErrDeadlineExceeded
		case len(h.buf) < maxBuffered:
			m := min(len(p), maxBuffered-len(h.buf))
			h.buf = append(h.buf, p[:m]...)
			p, n = p[m:], n+m
			h.cond.Broadcast()
			continue
		}
		h.cond.Wait()
	}
	return n, nil
}

// end says that no more is written; the first reason stays, but a reader that
// closes its end is always heard.
func (h *half) end(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil || errors.Is(err, net.ErrClosed) {
		h.err = err
	}
	h.cond.Broadcast()
}

// listener accepts the connections that dial makes.
type listener struct {
	name  string
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newListener(name string) *listener {
	return &listener{name: name, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *listener) Addr() net.Addr { return addr(l.name) }

func (l *listener) dial(from string) (net.Conn, error) {
	client, server := newConnPair(from, l.name)
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, &net.OpError{Op: "dial", Net: "sim", Addr: l.Addr(), Err: errors.New("connection refused")}
	}
}
