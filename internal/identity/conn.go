package identity

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
)

// ErrCut is what Read of a connection of [Client] or [Server] returns when the one
// below ends without a close_notify: a process on the way has died, and what was read is
// not all. It is an [io.ErrUnexpectedEOF].
var ErrCut = fmt.Errorf("the connection ended without a close_notify, so that a process on the way has died: %w", io.ErrUnexpectedEOF)

// Client is [tls.Client], but an end that nobody has said is an error. crypto/tls takes
// a FIN between two records for the end, as browsers must; the kernel sends one for a
// process that is killed, and what is relayed would look complete.
func Client(below net.Conn, config *tls.Config) *tls.Conn {
	return tls.Client(&cutConn{Conn: below}, config)
}

// Server is [tls.Server] in the same way.
func Server(below net.Conn, config *tls.Config) *tls.Conn {
	return tls.Server(&cutConn{Conn: below}, config)
}

// cutConn is the connection below TLS. Whoever has said nothing may end it: that is a
// port check.
type cutConn struct {
	net.Conn
	spoke bool // something was read; of the one reader at a time that tls.Conn allows
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.spoke = c.spoke || n > 0
	if c.spoke && errors.Is(err, io.EOF) {
		err = ErrCut
	}
	return n, err
}

// NetConn returns the connection below, for who aborts it.
func (c *cutConn) NetConn() net.Conn { return c.Conn }
