package forward

import (
	"net"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// unproved is a client whose handshake we cannot read: of the mesh port, or of another
// gateway's. Anybody can send a CONNECT and a ClientHello. The first encrypted record behind
// the answer to that is the client's proof: the other end ends the path at once if it proves
// nothing, but waits for the rest of one that is not whole, or for more when it is a second
// ClientHello. Until it comes the path may be cut to make room.
type unproved struct {
	relay.Conn
	proved   func()
	answered atomic.Bool // something was written to the client
	known    atomic.Bool // written by the reading goroutine
	records  records     // of the reading goroutine
}

// unproved returns the client, and notices its proof.
func (p *path) unproved() relay.Conn {
	if p.proved == nil {
		return p.conn
	}
	return &unproved{Conn: p.conn, proved: p.proved, records: p.records}
}

func (u *unproved) Read(b []byte) (int, error) {
	n, err := u.Conn.Read(b)
	if n > 0 && !u.known.Load() && u.records.add(b[:n], u.answered.Load()) {
		u.known.Store(true)
		u.proved()
	}
	return n, err
}

func (u *unproved) Write(b []byte) (int, error) {
	if !u.answered.Load() {
		u.answered.Store(true) // before the client can have read it
	}
	return u.Conn.Write(b)
}

// NetConn returns the connection below, for [relay.Abort].
func (u *unproved) NetConn() net.Conn { return u.Conn }

// Socket returns the client's, once it is known: then nothing needs to be seen here any
// more. For [relay.Socket].
func (u *unproved) Socket() *net.TCPConn {
	if !u.known.Load() {
		return nil
	}
	return relay.Socket(u.Conn)
}
