package exchange

import (
	"time"

	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// hostConn is the host's end of an attempt that has a connection of its own, which speaks
// HTTP/1.1.
type hostConn struct{ *upstream.Lease }

func (c hostConn) ready() bool  { return true }
func (c hostConn) closed() bool { return false }
func (c hostConn) await() error { return nil }

// SetReadDeadline bounds what is read of the host.
func (c hostConn) SetReadDeadline(t time.Time) error {
	c.ReadBy = t
	return c.Lease.SetReadDeadline(t)
}

// lookBy ends a read at t or before, but not before half of the time until then: a deadline that
// does may stay, since to move it costs a timer.
func (c hostConn) lookBy(now, t time.Time) {
	if by := c.ReadBy; by.After(t) || by.Sub(now) < t.Sub(now)/2 {
		_ = c.SetReadDeadline(t)
	}
}

// Abort makes both ends see an error.
func (c hostConn) Abort() error { return c.Conn.Abort() }

func (c hostConn) relayed() relay.Conn { return c.Conn }

// send writes the head and what there is of the body, at once if it is small. When nothing
// follows, and nothing is over the socket, it waits for the beginning of the answer as well.
func (c hostConn) send(x *exchange, body []byte) error {
	x.out = http1.AppendRequest(x.out[:0], &x.req, &x.rewrite)
	if len(x.out)+len(body) <= cap(x.out) {
		x.out = append(x.out, body...)
		body = nil
	}
	message := x.out
	if x.up == nil && len(body) == 0 && c.Asks() {
		sent, n, err := c.Ask(message, x.back)
		if sent == len(message) {
			x.filled, x.unheard = n, err
			return nil
		}
		if err != nil {
			return err
		}
		message = message[sent:]
	}
	_ = c.SetWriteDeadline(x.sendBy)
	_, err := c.Write(message)
	if err == nil && len(body) > 0 {
		_, err = c.Write(body)
	}
	return err
}

// readHead parses what has come, or reads more: back[:filled] is of the head and what is
// behind it.
func (c hostConn) readHead(x *exchange) (bool, error) {
	if x.filled > 0 {
		n, err := x.resp.Parse(x.back[:x.filled])
		if n > 0 || err != nil {
			x.headEnd = n
			return err == nil, err
		}
		if x.filled == len(x.back) {
			x.back = append(x.back, make([]byte, len(x.back))...) // http1.MaxHead bounds it
		}
	}
	if err := x.unheard; err != nil {
		x.unheard = nil
		return false, err
	}
	n, err := c.Read(x.back[x.filled:])
	x.filled += n
	if n > 0 {
		err = nil // the next read says it again
	}
	return false, err
}

func (c hostConn) reusable(x *exchange) bool {
	return x.resp.KeepAlive() && !x.untilClose && x.extra == 0 && x.rest == none && !x.mayTrail() && !x.mayHaveGone()
}
