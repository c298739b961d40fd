package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// killable leads to ep through a process that dies when it is told to: its kernel ends
// its connections as if it had closed them.
func killable(t *testing.T, ep mesh.Endpoint) (_ mesh.Endpoint, kill func()) {
	t.Helper()
	killed := make(chan struct{})
	to := ep.Address
	ep.Address = fakes(t, func(near *net.TCPConn) {
		far, err := net.Dial("tcp", to)
		if err != nil {
			t.Error(err)
			return
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = io.Copy(far, near)
		}()
		back := make(chan struct{})
		go func() {
			defer close(back)
			_, _ = io.Copy(near, far)
		}()
		<-killed
		far.Close()
		near.Close()
		<-ended
		<-back
	})
	return ep, func() { close(killed) }
}

func TestADeadPathIsAResetForBothEndsOfATCPConnection(t *testing.T) {
	w := newWorld(t)
	atProgram := make(chan error, 1)
	target := fakes(t, func(c *net.TCPConn) {
		_, err := io.Copy(struct{ io.Writer }{c}, c)
		atProgram <- err
	})
	ep, kill := killable(t, w.instance("east", "orders-1", target, mesh.TCP))
	c, err := net.Dial("tcp", w.outbound(route(mesh.TCP, ep)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	b := make([]byte, 1)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	kill()
	if _, err := c.Read(b); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the caller sees %v", err)
	}
	if err := <-atProgram; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the program sees %v", err)
	}
}

func TestAnAnswerOfUnknownLengthIsNotWholeWhenItsPathDies(t *testing.T) {
	w := newWorld(t)
	target := fakes(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf")
		_, _ = c.Read(make([]byte, 1)) // until the end
	})
	ep, kill := killable(t, w.instance("east", "orders-1", target, mesh.HTTP))
	resp, err := http.Get("http://" + w.outbound(route(mesh.HTTP, ep)) + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	kill()
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("it ends well, after %q", b)
	}
}
