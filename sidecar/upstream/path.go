package upstream

import (
	"net"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// pathConn is a connection through a gateway, as TLS sees it: it puts the
// CONNECT head in front of the first write, which is the ClientHello, and takes
// the reply's head off the first read. The bytes behind that head are TLS's, apart
// from goodbyes.
//
// The first Write and the first Read come from the handshake, one after the
// other; after that head and open do not change, and one goroutine may read
// while another writes. left and records are the reader's.
type pathConn struct {
	net.Conn
	head []byte // of CONNECT, until it is written
	left []byte // payload that came with the reply, until it is read

	records connect.Records // what was read
	going   atomic.Bool     // a gateway said goodbye: nothing new is begun here

	open   bool           // the gateway has said 2xx
	who    connect.Opened // who answers, as the gateway says
	failed error          // the reply was a *connect.Refusal, or not a reply
}

// newPath returns conn, a connection to a gateway, as a path to dest. Nothing
// is written yet.
func newPath(conn net.Conn, dest mesh.Destination, exclude, held []connect.Instance) *pathConn {
	request := connect.Request{Destination: dest, Exclude: exclude, Held: held, Goodbyes: true}
	return &pathConn{Conn: conn, head: request.Append(make([]byte, 0, 2<<10))}
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
	for {
		n, err := p.readAny(b)
		kept, goodbye := p.records.Strip(b[:n])
		if goodbye {
			p.going.Store(true)
		}
		if kept > 0 || err != nil || len(b) == 0 {
			return kept, err
		}
	}
}

// readAny reads what comes behind the reply's head, goodbyes included.
func (p *pathConn) readAny(b []byte) (int, error) {
	if len(p.left) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.left)
	if p.left = p.left[n:]; len(p.left) == 0 {
		p.left = nil
	}
	return n, nil
}

// readReply reads the reply to CONNECT. The handshake's context ends it, by
// closing the connection.
func (p *pathConn) readReply() error {
	who, payload, err := connect.ReadReply(p.Conn, make([]byte, 0, 1<<10))
	if err != nil {
		return err
	}
	if who.Cluster != "" && who.Name != "" { // else nameless: what fails is the gateway's fault
		p.who = who
	}
	p.open, p.left = true, payload
	return nil
}
