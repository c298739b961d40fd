package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// pathConn is a connection through a gateway, as TLS sees it: it puts the
// CONNECT head in front of the first write, which is the ClientHello, and takes
// the reply's head off the first read. The bytes behind that head are TLS's.
//
// The first Write and the first Read come from the handshake, one after the
// other; after that head and open do not change, and one goroutine may read
// while another writes.
type pathConn struct {
	net.Conn
	head []byte // of CONNECT, until it is written
	left []byte // payload that came with the reply, until it is read

	open   bool       // the gateway has said 2xx
	who    remoteName // who answers, as the gateway says
	failed error      // the reply was a *Refusal, or not a reply
}

// newPath returns conn, a connection to a gateway, as a path to dest. Nothing
// is written yet.
func newPath(conn net.Conn, dest mesh.Destination, exclude string) *pathConn {
	authority := dest.String()
	head := "CONNECT " + authority + " HTTP/1.1\r\nHost: " + authority + "\r\n"
	if exclude != "" {
		head += "Isthmus-Exclude: " + exclude + "\r\n"
	}
	return &pathConn{Conn: conn, head: append(make([]byte, 0, 2<<10), head+"\r\n"...)}
}

// Write writes payload, the first time right behind the CONNECT head.
func (p *pathConn) Write(b []byte) (int, error) {
	if p.head == nil {
		return p.Conn.Write(b)
	}
	before := len(p.head)
	n, err := p.Conn.Write(append(p.head, b...))
	p.head = nil
	return max(0, n-before), err
}

// Read reads payload, the first time after the reply's head.
func (p *pathConn) Read(b []byte) (int, error) {
	if !p.open {
		if p.failed == nil {
			p.failed = p.readReply()
		}
		if p.failed != nil {
			return 0, p.failed
		}
	}
	if len(p.left) > 0 {
		n := copy(b, p.left)
		if p.left = p.left[n:]; len(p.left) == 0 {
			p.left = nil
		}
		return n, nil
	}
	return p.Conn.Read(b)
}

// readReply reads the final reply to CONNECT. The handshake's context ends it, by
// closing the connection.
func (p *pathConn) readReply() error {
	buf := make([]byte, 0, 1<<10)
	for {
		for {
			head, rest, ok := cutHead(buf)
			if !ok {
				break
			}
			r, err := parseReply(head)
			if err != nil {
				return err
			}
			if r.refusal != nil {
				return r.refusal
			}
			if r.final {
				p.open, p.who, p.left = true, r.who, rest
				return nil
			}
			buf = rest // 1xx: another head follows
		}
		if len(buf) >= maxReplyHead {
			return fmt.Errorf("the gateway's reply to CONNECT is longer than %d bytes: is this a gateway's mesh port?", maxReplyHead)
		}
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, min(2*len(buf)+1<<10, maxReplyHead)), buf...)
		}
		n, err := p.Conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil && n == 0 {
			if errors.Is(err, io.EOF) {
				return errors.New("the gateway closed the connection without a reply to CONNECT")
			}
			return fmt.Errorf("read the gateway's reply to CONNECT: %w", err)
		}
	}
}

// cutHead splits b behind the first empty line.
func cutHead(b []byte) (head, rest []byte, ok bool) {
	const end = "\r\n\r\n"
	i := bytes.Index(b, []byte(end))
	if i < 0 {
		return nil, b, false
	}
	return b[:i+len(end)], b[i+len(end):], true
}
