package forward

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// Entered is the caller's end of a path that [Forward.Enter] opens: what is written to it
// must begin with a TLS ClientHello.
type Entered struct {
	relay.Conn
	refusal *atomic.Pointer[connect.Refusal]
}

// NetConn returns the connection below, for [relay.Abort].
func (e *Entered) NetConn() net.Conn { return e.Conn }

// Refused says why there is no path, once the connection has ended with an alert; nil: it
// was not refused.
func (e *Entered) Refused() *connect.Refusal { return e.refusal.Load() }

// Enter opens a path for a caller without a sidecar, who is at peer and counts as
// a source like those on the mesh port. Without are clusters that may not serve it. It returns at once; the path ends with what it
// returns, which is the caller's to close. The path is one of this Forward: it drains and
// ends with it.
func (f *Forward) Enter(dest mesh.Destination, peer net.Addr, without ...mesh.ClusterName) (*Entered, error) {
	near, far, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("open a path to %s: %w", dest, err)
	}
	if !f.enter() {
		_ = near.Close()
		_ = far.Close()
		return nil, errStopped
	}
	p := &path{f: f, dir: outbound, conn: &enteredFrom{far, peer}, sni: true, proved: func() {}}
	p.req.Destination = dest
	for _, c := range without {
		p.req.Exclude = append(p.req.Exclude, connect.Instance{Cluster: c})
	}
	go func() {
		defer f.running.Done()
		f.serveEntered(p, peer)
	}()
	return &Entered{Conn: near, refusal: &p.refusal}, nil
}

func (f *Forward) serveEntered(p *path, peer net.Addr) {
	conn := p.conn // p.conn becomes the TLS upon it
	unhook := context.AfterFunc(f.base, func() { relay.Abort(conn) })
	defer unhook()
	from := limit.SourceOf(peer)
	refusal := p.req.Pass(f.cfg.Self)
	if refusal == nil && !f.limits.take(from, func() bool { return f.young.Yield(peer) }) {
		refusal = f.overLimit()
	} else if refusal == nil {
		defer f.limits.release(from)
	}
	if refusal != nil {
		p.refuse(refusal)
		return
	}
	p.serve(nil)
}

// enteredFrom is this gateway's end of such a path. What is told of the client is where
// the caller is.
type enteredFrom struct {
	*net.UnixConn
	peer net.Addr
}

func (e *enteredFrom) RemoteAddr() net.Addr { return e.peer }

// socketPair returns two ends of one connection with half-close and deadlines, as the
// relay needs them.
func socketPair() (a, b *net.UnixConn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	if a, err = unixConn(fds[0]); err != nil {
		_ = unix.Close(fds[1])
		return nil, nil, err
	}
	if b, err = unixConn(fds[1]); err != nil {
		_ = a.Close()
		return nil, nil, err
	}
	return a, b, nil
}

// unixConn takes fd over.
func unixConn(fd int) (*net.UnixConn, error) {
	file := os.NewFile(uintptr(fd), "entered")
	defer file.Close()
	c, err := net.FileConn(file) // a duplicate of fd
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}
