package forward

import (
	"net"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// unproved is a client of the mesh port whose handshake we cannot read. Anybody can send
// a CONNECT and a ClientHello. The first bytes behind the answer to that are the
// client's proof: the other end ends the path at once if they prove nothing. Until they
// come the client is a stranger, whose path may be cut to make room.
type unproved struct {
	relay.Conn
	stranger *limit.Stranger
	answered atomic.Bool // something was written to the client
	known    bool        // of the reading goroutine
}

// unproved returns the client, and notices its proof.
func (p *path) unproved() relay.Conn {
	if p.stranger == nil {
		return p.conn
	}
	return &unproved{Conn: p.conn, stranger: p.stranger}
}

func (u *unproved) Read(b []byte) (int, error) {
	n, err := u.Conn.Read(b)
	if n > 0 && !u.known && u.answered.Load() {
		u.known = true
		u.stranger.Known()
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
