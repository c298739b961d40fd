package forward

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/liveness"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// serveMesh serves one connection to the mesh port and closes it.
func (f *Forward) serveMesh(c net.Conn, who *limit.Stranger) {
	conn, ok := c.(relay.Conn)
	if !ok {
		relay.Abort(c)
		return
	}
	liveness.KeepAlive(conn)
	unhook := context.AfterFunc(f.base, func() { relay.Abort(conn) })
	defer unhook()
	p, payload := f.readPath(conn, headTimeout)
	if p == nil {
		return
	}
	from := limit.SourceOf(conn.RemoteAddr())
	if !f.limits.take(from, func() bool { return f.young.Yield(conn.RemoteAddr()) }) {
		f.reject(p)
		return
	}
	defer f.limits.release(from)
	p.proved = who.Known
	young := f.young.Meet(conn.RemoteAddr(), func(error) { relay.Abort(conn) })
	defer young.Known()
	defer time.AfterFunc(youngFor, young.Known).Stop()
	p.serve(payload)
}

// reject tells a caller beyond the bounds so, if not too many are being told.
func (f *Forward) reject(p *path) {
	select {
	case f.rejecting <- struct{}{}:
		defer func() { <-f.rejecting }()
		p.refuse(f.overLimit())
	default:
		f.metrics.refusal(outbound, reasonRejected)
		relay.Abort(p.conn)
	}
}

// readPath reads what a connection to the mesh port asks for, and returns the
// payload that came with it. It returns nil when it has closed the connection.
func (f *Forward) readPath(conn relay.Conn, timeout time.Duration) (*path, []byte) {
	_ = conn.SetReadDeadline(time.Now().Add(timeout))
	b := make([]byte, firstRead)
	n, err := conn.Read(b)
	b = b[:n]
	if n == 0 {
		f.drop(conn, reasonNoHead, err)
		return nil, nil
	}
	p := &path{f: f, dir: outbound, conn: conn}
	var payload []byte
	var refusal *connect.Refusal
	switch b[0] {
	case 'C':
		payload, refusal, err = p.readConnect(b)
	case recordHandshake:
		p.sni = true
		payload, refusal, err = p.readHello(b)
	default:
		f.drop(conn, reasonNotMesh, nil)
		return nil, nil
	}
	switch {
	case err != nil:
		f.drop(conn, reasonNoHead, err)
		return nil, nil
	case refusal == nil && f.dials.accepted(conn):
		refusal = connect.Refuse(http.StatusLoopDetected, connect.ProxyLoop,
			"an endpoint of %s has the address of this gateway's mesh port", p.req.Destination.Service)
	}
	if refusal != nil {
		p.refuse(refusal)
		return nil, nil
	}
	_ = conn.SetReadDeadline(time.Time{})
	return p, payload
}

// readConnect reads a CONNECT, of which b was read, and returns what came behind it.
func (p *path) readConnect(b []byte) ([]byte, *connect.Refusal, error) {
	req, payload, err := connect.ReadRequest(p.conn, b)
	var refusal *connect.Refusal
	if errors.As(err, &refusal) {
		return nil, refusal, nil
	}
	if err != nil {
		return nil, nil, err
	}
	p.req.Request = *req
	return payload, p.req.Pass(p.f.cfg.Self), nil
}

// readHello reads a TLS ClientHello, of which b was read, and returns all that
// was read: the ClientHello is payload, too.
func (p *path) readHello(b []byte) ([]byte, *connect.Refusal, error) {
	for {
		name, done, err := helloServerName(b)
		if err != nil {
			return nil, connect.Refuse(http.StatusBadRequest, connect.RequestError, "%v", err), nil
		}
		if done {
			p.req.Destination, err = mesh.ParseServerName(name)
			if err != nil {
				return nil, connect.Refuse(http.StatusNotFound, connect.DestinationNotFound, "%v", err), nil
			}
			return b, p.req.Pass(p.f.cfg.Self), nil
		}
		b = slices.Grow(b, firstRead)
		n, err := p.conn.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if n == 0 && err != nil {
			return nil, nil, err
		}
	}
}

// drop resets a connection that asked for nothing.
func (f *Forward) drop(conn relay.Conn, reason string, err error) {
	f.metrics.refusal(outbound, reason)
	f.cfg.Log.Debug("connection to the mesh port dropped", "peer_addr", conn.RemoteAddr().String(), "reason", reason, "err", err)
	relay.Abort(conn)
}
