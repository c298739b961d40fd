package relay

import "net"

// Conn is a connection whose two directions end separately, such as
// *net.TCPConn, *tls.Conn and a tunnel's stream.
type Conn interface {
	net.Conn
	// CloseWrite ends the direction away from us. What was written before
	// arrives.
	CloseWrite() error
}

// Abort closes c such that its peer sees an error and not a clean end: a
// stream is reset, TCP is closed with RST, and of TLS the connection below is
// aborted, without the close_notify that Close would send. It never blocks on
// the network and may be called more than once and beside reads and writes.
func Abort(c net.Conn) {
	for c != nil {
		switch t := c.(type) {
		case interface{ Abort() error }: // a tunnel's stream
			_ = t.Abort() // there is nobody left to tell
			return
		case interface{ SetLinger(sec int) error }:
			_ = t.SetLinger(0) // fails on a closed connection only
			_ = c.Close()
			return
		case interface{ NetConn() net.Conn }:
			c = t.NetConn()
		default:
			_ = c.Close()
			return
		}
	}
}

// WithPrefix returns c with read put back in front: its Read gives those bytes
// first. It keeps read. An empty prefix returns c itself.
func WithPrefix(c Conn, read []byte) Conn {
	if len(read) == 0 {
		return c
	}
	return &prefixed{Conn: c, read: read}
}

// prefixed is a Conn of which some bytes were read before it was handed on.
type prefixed struct {
	Conn
	read []byte // owned by the reading goroutine
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.read) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.read)
	if p.read = p.read[n:]; len(p.read) == 0 {
		p.read = nil
	}
	return n, nil
}

// NetConn returns the connection below, for [Abort].
func (p *prefixed) NetConn() net.Conn { return p.Conn }

// Socket returns the TCP connection that carries what is written to c as it is, and
// nothing else; nil when there is none: c is TLS, not TCP, or a socket whose bytes
// go another way (a redirected one, on which splice(2) loses bytes). A Conn that hides
// such a socket says so by a method of this name.
func Socket(c net.Conn) *net.TCPConn {
	switch t := c.(type) {
	case *net.TCPConn:
		return t
	case *prefixed:
		return Socket(t.Conn)
	case interface{ Socket() *net.TCPConn }:
		return t.Socket()
	}
	return nil
}

// Source returns what the next Read of c waits for: c itself, or what it wraps and reads
// from; nil while there is something to read before that. A Conn that wraps another so says it
// by a method of this name.
func Source(c Conn) Conn {
	for {
		switch t := c.(type) {
		case *prefixed:
			if len(t.read) > 0 {
				return nil
			}
			c = t.Conn
		case interface{ Source() Conn }:
			c = t.Source()
		default:
			return c
		}
	}
}
